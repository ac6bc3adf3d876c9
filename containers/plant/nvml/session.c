/* nvmlInit, nvmlShutdown and the way into and out of every call. */
#define _GNU_SOURCE
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

struct nvmlDevice_st {
    unsigned slot;
};

static struct nvmlDevice_st devices[MAX_GPUS];
static pthread_mutex_t session_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct node *current_node; /* atomic; kept after the last shutdown, since threads may still be inside a call */
static int references;            /* atomic */
static int client_file = -1;      /* holds a shared lock from the first nvmlInit to the last nvmlShutdown */

static void before_fork(void) { pthread_mutex_lock(&session_mutex); }
static void after_fork(void) { pthread_mutex_unlock(&session_mutex); }

/* Later than store.c's, so taken before it: the order in which nvmlInit takes them. */
__attribute__((constructor(1000))) static void prepare(void) {
    for (unsigned slot = 0; slot < MAX_GPUS; slot++) devices[slot].slot = slot;
    pthread_atfork(before_fork, after_fork, after_fork);
}

static nvmlReturn_t as_return(int problem) {
    switch (problem) {
    case 0: return NVML_SUCCESS;
    case EACCES:
    case EPERM: return NVML_ERROR_NO_PERMISSION;
    case ENOENT:
    case ENOTDIR:
    case EBADMSG:
    case ESTALE: return NVML_ERROR_DRIVER_NOT_LOADED;
    default: return NVML_ERROR_UNKNOWN;
    }
}

/* A GPU can be reset only while nobody is a client of the driver: who wants to know tries for the exclusive lock. */
static int become_client(const char *path) {
    client_file = open(path, O_RDONLY | O_CLOEXEC);
    if (client_file < 0) return errno;
    if (!flock(client_file, LOCK_SH | LOCK_NB)) return 0;
    int problem = errno;
    close(client_file);
    client_file = -1;
    return problem;
}

static void leave_clients(void) {
    if (client_file >= 0) close(client_file);
    client_file = -1;
}

EXPORT nvmlReturn_t nvmlInitWithFlags(unsigned int flags) {
    (void)flags;
    const char *path = getenv("PLANT_NVML_STATE");
    if (!path) return NVML_ERROR_DRIVER_NOT_LOADED;
    pthread_mutex_lock(&session_mutex);
    int problem = 0;
    if (!references && !(current_node && node_same_file(current_node, path))) {
        struct node *node = NULL;
        problem = node_open(path, &node);
        if (!problem) __atomic_store_n(&current_node, node, __ATOMIC_RELEASE);
    }
    if (!problem && !references) problem = become_client(path);
    if (!problem) __atomic_fetch_add(&references, 1, __ATOMIC_ACQ_REL);
    pthread_mutex_unlock(&session_mutex);
    return as_return(problem);
}

EXPORT nvmlReturn_t nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
EXPORT nvmlReturn_t nvmlInit(void) { return nvmlInitWithFlags(0); }

EXPORT nvmlReturn_t nvmlShutdown(void) {
    pthread_mutex_lock(&session_mutex);
    int was_open = references > 0;
    if (was_open && __atomic_sub_fetch(&references, 1, __ATOMIC_ACQ_REL) == 0) leave_clients();
    pthread_mutex_unlock(&session_mutex);
    return was_open ? NVML_SUCCESS : NVML_ERROR_UNINITIALIZED;
}

nvmlReturn_t session_node(struct node **node) {
    if (__atomic_load_n(&references, __ATOMIC_ACQUIRE) <= 0) return NVML_ERROR_UNINITIALIZED;
    *node = __atomic_load_n(&current_node, __ATOMIC_ACQUIRE);
    return NVML_SUCCESS;
}

static void wait_seconds(double seconds) {
    struct timespec left = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    while (nanosleep(&left, &left) && errno == EINTR) {}
}

/* Lock and advance; a slow GPU makes its caller wait, and nobody else. */
static nvmlReturn_t enter(struct node *node, unsigned slot, struct call *call) {
    int problem = node_lock(node);
    if (problem) return as_return(problem);
    struct gpu *gpu = gpu_begin(node, slot);
    if (gpu_has_fault(gpu, FAULT_SLOW_CALL)) {
        double delay_seconds = gpu->faults[FAULT_SLOW_CALL].value;
        gpu_commit(node, slot);
        node_unlock(node);
        wait_seconds(delay_seconds);
        problem = node_lock(node);
        if (problem) return as_return(problem);
        gpu = gpu_begin(node, slot);
    }
    *call = (struct call){node, gpu, &node->state->constants, slot};
    return gpu_has_fault(gpu, FAULT_LOST) ? call_end(call, NVML_ERROR_GPU_IS_LOST) : NVML_SUCCESS;
}

nvmlReturn_t call_begin(nvmlDevice_t device, const void *result, struct call *call) {
    struct node *node;
    nvmlReturn_t answer = session_node(&node);
    if (answer != NVML_SUCCESS) return answer;
    for (unsigned slot = 0; slot < node->state->gpu_count; slot++)
        if (device == &devices[slot]) return result ? enter(node, slot, call) : NVML_ERROR_INVALID_ARGUMENT;
    return NVML_ERROR_INVALID_ARGUMENT;
}

nvmlReturn_t call_end(struct call *call, nvmlReturn_t answer) {
    gpu_commit(call->node, call->slot);
    node_unlock(call->node);
    return answer;
}

nvmlReturn_t call_begin_write(nvmlDevice_t device, struct call *call, int *ignored) {
    nvmlReturn_t answer = call_begin(device, device, call);
    if (answer != NVML_SUCCESS) return answer;
    *ignored = gpu_has_fault(call->gpu, FAULT_SET_IGNORED);
    if (geteuid() != 0) return call_end(call, NVML_ERROR_NO_PERMISSION);
    if (gpu_has_fault(call->gpu, FAULT_SET_ERROR))
        return call_end(call, (nvmlReturn_t)call->gpu->faults[FAULT_SET_ERROR].value);
    return NVML_SUCCESS;
}

nvmlReturn_t session_handle(struct node *node, unsigned slot, nvmlDevice_t *device) {
    struct call call;
    nvmlReturn_t answer = enter(node, slot, &call);
    if (answer != NVML_SUCCESS) return answer;
    *device = &devices[slot];
    return call_end(&call, NVML_SUCCESS);
}

nvmlReturn_t text_answer(char *to, unsigned size, const char *text) {
    if (!to) return NVML_ERROR_INVALID_ARGUMENT;
    size_t length = strlen(text) + 1;
    if (length > size) return NVML_ERROR_INSUFFICIENT_SIZE;
    memcpy(to, text, length);
    return NVML_SUCCESS;
}
