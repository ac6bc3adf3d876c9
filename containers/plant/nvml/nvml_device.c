/* NVML: finding GPUs, their names and addresses, memory and processes. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>

#include "identity.h"
#include "session.h"

#define NO_INSTANCE 0xffffffffu /* MIG is off */

EXPORT const char *nvmlErrorString(nvmlReturn_t result) {
    switch (result) {
    case NVML_SUCCESS: return "The operation was successful";
    case NVML_ERROR_UNINITIALIZED: return "Uninitialized";
    case NVML_ERROR_INVALID_ARGUMENT: return "Invalid Argument";
    case NVML_ERROR_NOT_SUPPORTED: return "Not Supported";
    case NVML_ERROR_NO_PERMISSION: return "Insufficient Permissions";
    case NVML_ERROR_NOT_FOUND: return "Not Found";
    case NVML_ERROR_INSUFFICIENT_SIZE: return "Insufficient Size";
    case NVML_ERROR_DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case NVML_ERROR_TIMEOUT: return "Timeout";
    case NVML_ERROR_GPU_IS_LOST: return "GPU is lost";
    case NVML_ERROR_ARGUMENT_VERSION_MISMATCH: return "Argument Version Mismatch";
    default: return "Unknown Error";
    }
}

EXPORT nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned int length) {
    struct node *node;
    nvmlReturn_t answer = session_node(&node);
    return answer != NVML_SUCCESS ? answer : text_answer(version, length, node->state->constants.driver_version);
}

EXPORT nvmlReturn_t nvmlSystemGetNVMLVersion(char *version, unsigned int length) {
    struct node *node;
    nvmlReturn_t answer = session_node(&node);
    return answer != NVML_SUCCESS ? answer : text_answer(version, length, node->state->constants.nvml_version);
}

EXPORT nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *version) {
    struct node *node;
    nvmlReturn_t answer = session_node(&node);
    if (answer != NVML_SUCCESS) return answer;
    if (!version) return NVML_ERROR_INVALID_ARGUMENT;
    *version = (int)node->state->constants.cuda_driver_version;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version) { return nvmlSystemGetCudaDriverVersion(version); }

EXPORT nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *count) {
    struct node *node;
    nvmlReturn_t answer = session_node(&node);
    if (answer != NVML_SUCCESS) return answer;
    if (!count) return NVML_ERROR_INVALID_ARGUMENT;
    *count = node->state->gpu_count;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetCount(unsigned int *count) { return nvmlDeviceGetCount_v2(count); }

EXPORT nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device) {
    struct node *node;
    nvmlReturn_t answer = session_node(&node);
    if (answer != NVML_SUCCESS) return answer;
    if (!device || index >= node->state->gpu_count) return NVML_ERROR_INVALID_ARGUMENT;
    return session_handle(node, node_slot_of_index(node, index), device);
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByIndex(unsigned int index, nvmlDevice_t *device) {
    return nvmlDeviceGetHandleByIndex_v2(index, device);
}

typedef int identity_writer(const struct node_state *state, unsigned slot, char *text, unsigned size);

static nvmlReturn_t find_by_text(const char *wanted, identity_writer *write_identity, nvmlDevice_t *device) {
    struct node *node;
    nvmlReturn_t answer = session_node(&node);
    if (answer != NVML_SUCCESS) return answer;
    if (!wanted || !device) return NVML_ERROR_INVALID_ARGUMENT;
    char text[TEXT_LENGTH];
    for (unsigned slot = 0; slot < node->state->gpu_count; slot++)
        if (write_identity(node->state, slot, text, sizeof text) && !strcmp(text, wanted))
            return session_handle(node, slot, device);
    return NVML_ERROR_NOT_FOUND;
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device) {
    return find_by_text(uuid, identity_uuid, device);
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleBySerial(const char *serial, nvmlDevice_t *device) {
    return find_by_text(serial, identity_serial, device);
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, nvmlDevice_t *device) {
    struct node *node;
    unsigned domain, bus, number;
    nvmlReturn_t answer = session_node(&node);
    if (answer != NVML_SUCCESS) return answer;
    if (!bus_id || !device || sscanf(bus_id, "%x:%x:%x", &domain, &bus, &number) != 3)
        return NVML_ERROR_INVALID_ARGUMENT;
    for (unsigned slot = 0; slot < node->state->gpu_count; slot++)
        if (domain == 0 && number == 0 && bus == identity_bus(slot)) return session_handle(node, slot, device);
    return NVML_ERROR_NOT_FOUND;
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByPciBusId(const char *bus_id, nvmlDevice_t *device) {
    return nvmlDeviceGetHandleByPciBusId_v2(bus_id, device);
}

EXPORT nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned int *index) {
    struct call call;
    nvmlReturn_t answer = call_begin(device, index, &call);
    if (answer != NVML_SUCCESS) return answer;
    *index = node_index_of_slot(call.node, call.slot);
    return call_end(&call, NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t device, unsigned int *minor) {
    struct call call;
    nvmlReturn_t answer = call_begin(device, minor, &call);
    if (answer != NVML_SUCCESS) return answer;
    *minor = call.slot;
    return call_end(&call, NVML_SUCCESS);
}

static nvmlReturn_t identity_answer(nvmlDevice_t device, identity_writer *write_identity, char *text, unsigned size) {
    struct call call;
    nvmlReturn_t answer = call_begin(device, text, &call);
    if (answer != NVML_SUCCESS) return answer;
    char whole[TEXT_LENGTH];
    write_identity(call.node->state, call.slot, whole, sizeof whole);
    return call_end(&call, text_answer(text, size, whole));
}

EXPORT nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int length) {
    return identity_answer(device, identity_uuid, uuid, length);
}

EXPORT nvmlReturn_t nvmlDeviceGetSerial(nvmlDevice_t device, char *serial, unsigned int length) {
    return identity_answer(device, identity_serial, serial, length);
}

EXPORT nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int length) {
    struct call call;
    nvmlReturn_t answer = call_begin(device, name, &call);
    if (answer != NVML_SUCCESS) return answer;
    return call_end(&call, text_answer(name, length, call.constants->model_name));
}

EXPORT nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *pci) {
    struct call call;
    nvmlReturn_t answer = call_begin(device, pci, &call);
    if (answer != NVML_SUCCESS) return answer;
    memset(pci, 0, sizeof *pci);
    pci->bus = identity_bus(call.slot);
    pci->pciDeviceId = PCI_VENDOR_NVIDIA;
    snprintf(pci->busIdLegacy, sizeof pci->busIdLegacy, "0000:%02X:00.0", pci->bus & 0xff);
    snprintf(pci->busId, sizeof pci->busId, "00000000:%02X:00.0", pci->bus & 0xff);
    return call_end(&call, NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetPciInfo_v2(nvmlDevice_t device, nvmlPciInfo_t *pci) {
    return nvmlDeviceGetPciInfo_v3(device, pci);
}

static unsigned long long memory_used_bytes(const struct call *call) {
    unsigned long long used = 0;
    for (unsigned i = 0; i < call->gpu->process_count; i++) used += call->gpu->processes[i].memory_bytes;
    unsigned long long total = (unsigned long long)call->constants->memory_bytes;
    return used < total ? used : total;
}

EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory) {
    struct call call;
    nvmlReturn_t answer = call_begin(device, memory, &call);
    if (answer != NVML_SUCCESS) return answer;
    memory->total = (unsigned long long)call.constants->memory_bytes;
    memory->used = memory_used_bytes(&call);
    memory->free = memory->total - memory->used;
    return call_end(&call, NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory) {
    if (memory && memory->version != nvmlMemory_v2) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    nvmlMemory_t plain;
    nvmlReturn_t answer = nvmlDeviceGetMemoryInfo(device, memory ? &plain : NULL);
    if (answer != NVML_SUCCESS || !memory) return answer;
    memory->total = plain.total;
    memory->used = plain.used;
    memory->free = plain.free;
    memory->reserved = 0;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned int *count,
                                                            nvmlProcessInfo_t *infos) {
    struct call call;
    nvmlReturn_t answer = call_begin(device, count, &call);
    if (answer != NVML_SUCCESS) return answer;
    unsigned room = *count;
    *count = call.gpu->process_count;
    if (call.gpu->process_count > 0 && (!infos || room < call.gpu->process_count))
        return call_end(&call, NVML_ERROR_INSUFFICIENT_SIZE);
    for (unsigned i = 0; i < call.gpu->process_count; i++)
        infos[i] = (nvmlProcessInfo_t){
            .pid = call.gpu->processes[i].pid,
            .usedGpuMemory = call.gpu->processes[i].memory_bytes,
            .gpuInstanceId = NO_INSTANCE,
            .computeInstanceId = NO_INSTANCE,
        };
    return call_end(&call, NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v2(nvmlDevice_t device, unsigned int *count,
                                                            nvmlProcessInfo_v2_t *infos) {
    return nvmlDeviceGetComputeRunningProcesses_v3(device, count, (nvmlProcessInfo_t *)infos);
}

static nvmlReturn_t no_processes(nvmlDevice_t device, unsigned int *count) {
    struct call call;
    nvmlReturn_t answer = call_begin(device, count, &call);
    if (answer != NVML_SUCCESS) return answer;
    *count = 0;
    return call_end(&call, NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses_v3(nvmlDevice_t device, unsigned int *count,
                                                             nvmlProcessInfo_t *infos) {
    (void)infos;
    return no_processes(device, count);
}

EXPORT nvmlReturn_t nvmlDeviceGetMPSComputeRunningProcesses_v3(nvmlDevice_t device, unsigned int *count,
                                                               nvmlProcessInfo_t *infos) {
    (void)infos;
    return no_processes(device, count);
}
