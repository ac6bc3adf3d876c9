/* Drives the library's control side and NVML side from threads and forked children, for the sanitizers to watch.
 *
 * Usage: nvml_exercise STATE CONSTANTS, where CONSTANTS is a file of "key=value" lines.  Exit 0: all answers right.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "control.h"
#include "nvml_types.h"

nvmlReturn_t nvmlInit_v2(void);
nvmlReturn_t nvmlShutdown(void);
nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device);
nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned int *power);
nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int length);
nvmlReturn_t nvmlDeviceSetPowerManagementLimit(nvmlDevice_t device, unsigned int limit);
nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int count, nvmlFieldValue_t *values);
nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_t *infos);
nvmlReturn_t nvmlDeviceGetSupportedGraphicsClocks(nvmlDevice_t device, unsigned int memory, unsigned int *count,
                                                  unsigned int *clocks);

#define CHECK(condition)                                                     \
    do {                                                                     \
        if (!(condition)) {                                                  \
            fprintf(stderr, "line %d: not true: %s\n", __LINE__, #condition); \
            _exit(1);                                                        \
        }                                                                    \
    } while (0)

enum { ROUNDS = 300, THREADS = 4, CHILDREN = 20, GPUS = 8, TRUTHS = 19, TRUTH_SET_COUNT = 17 };

static void use_every_gpu(unsigned round) {
    for (unsigned index = 0; index < GPUS; index++) {
        nvmlDevice_t device;
        unsigned power, count = 4, few = 1, clocks[256];
        char uuid[96];
        nvmlFieldValue_t fields[3] = {{.fieldId = 186}, {.fieldId = 83}, {.fieldId = 4711}};
        nvmlProcessInfo_t infos[4];
        CHECK(nvmlDeviceGetHandleByIndex_v2(index, &device) == NVML_SUCCESS);
        CHECK(nvmlDeviceGetPowerUsage(device, &power) == NVML_SUCCESS && power >= 70000);
        CHECK(nvmlDeviceGetUUID(device, uuid, sizeof uuid) == NVML_SUCCESS);
        CHECK(nvmlDeviceGetUUID(device, uuid, 8) == NVML_ERROR_INSUFFICIENT_SIZE);
        CHECK(nvmlDeviceGetFieldValues(device, 3, fields) == NVML_SUCCESS);
        CHECK(fields[2].nvmlReturn == NVML_ERROR_NOT_SUPPORTED);
        CHECK(nvmlDeviceGetComputeRunningProcesses_v3(device, &count, infos) == NVML_SUCCESS && count == 1);
        CHECK(nvmlDeviceGetSupportedGraphicsClocks(device, 2619, &few, clocks) == NVML_ERROR_INSUFFICIENT_SIZE);
        nvmlReturn_t set = nvmlDeviceSetPowerManagementLimit(device, 200000 + round * 1000);
        CHECK(set == (geteuid() ? NVML_ERROR_NO_PERMISSION : NVML_SUCCESS));
    }
}

static void *read_and_set(void *unused) {
    (void)unused;
    CHECK(nvmlInit_v2() == NVML_SUCCESS);
    for (unsigned round = 0; round < ROUNDS; round++) use_every_gpu(round);
    CHECK(nvmlShutdown() == NVML_SUCCESS);
    return NULL;
}

static void *put_loads(void *argument) {
    struct node *node = argument;
    for (unsigned round = 0; round < ROUNDS; round++)
        for (unsigned slot = 0; slot < GPUS; slot++) {
            double truth[TRUTHS];
            CHECK(!plant_set_load(node, slot, 1, 300 + round, 60, 0.5, 1, 1, 2));
            CHECK(!plant_set_fault(node, slot, FAULT_OUT_OF_BAND_LIMIT, 300, 0.001));
            CHECK(!plant_pass_time(node, 0.003));
            CHECK(!plant_truth(node, slot, truth, TRUTHS));
            CHECK(plant_truth(node, slot, truth, 3) != 0);
        }
    return NULL;
}

int main(int count, char **arguments) {
    CHECK(count == 3);
    char constants[8192] = {0}, problem[200] = {0};
    FILE *file = fopen(arguments[2], "r");
    CHECK(file && fread(constants, 1, sizeof constants - 1, file) > 0);
    fclose(file);
    CHECK(!plant_create(arguments[1], "c1", GPUS, constants, problem, sizeof problem));
    CHECK(plant_create(arguments[1], "c1", GPUS, "idle_watts=x", problem, sizeof problem) && *problem);
    struct node *node;
    CHECK(!plant_open(arguments[1], &node));
    for (unsigned slot = 0; slot < GPUS; slot++) CHECK(!plant_add_process(node, slot, 1, 4242, 1 << 20, -1));
    setenv("PLANT_NVML_STATE", arguments[1], 1);
    pthread_t threads[THREADS];
    for (unsigned i = 0; i < THREADS; i++)
        CHECK(!pthread_create(&threads[i], NULL, i ? read_and_set : put_loads, node));
    for (unsigned child = 0; child < CHILDREN; child++) { /* forks while the threads hold the locks */
        pid_t pid = fork();
        if (pid == 0) {
            double truth[TRUTHS];
            CHECK(!plant_truth(node, child % GPUS, truth, TRUTHS));
            CHECK(nvmlInit_v2() == NVML_SUCCESS);
            use_every_gpu(child);
            _exit(0);
        }
        int status;
        CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
    }
    for (unsigned i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    for (unsigned slot = 0; slot < GPUS && geteuid() == 0; slot++) { /* no write was lost to another thread's */
        double truth[TRUTHS];
        CHECK(!plant_truth(node, slot, truth, TRUTHS));
        CHECK(truth[TRUTH_SET_COUNT] == (THREADS - 1) * ROUNDS + CHILDREN);
    }
    CHECK(!plant_retire(arguments[1]));
    plant_close(node);
    return 0;
}
