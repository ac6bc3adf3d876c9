/* NVML: clocks and their locks, utilization, temperature, modes and the reasons for being slow. */
#define _GNU_SOURCE
#include <math.h>

#include "session.h"

#define SYMBOLIC_CLOCK_LIMITS 0xffffff00u /* NVML_CLOCK_LIMIT_ID_RANGE_START: TDP and UNLIMITED lie above */

static nvmlReturn_t answer_clock(nvmlDevice_t device, nvmlClockType_t type, int want_max, unsigned int *clock) {
    struct call call;
    if ((unsigned)type > NVML_CLOCK_VIDEO) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t answer = call_begin(device, clock, &call);
    if (answer != NVML_SUCCESS) return answer;
    double megahertz = want_max ? call.constants->clock_max_megahertz : call.gpu->clock_megahertz;
    if (type == NVML_CLOCK_MEM) megahertz = call.constants->memory_clock_megahertz;
    *clock = (unsigned)lround(megahertz);
    return call_end(&call, NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, nvmlClockType_t type, unsigned int *clock) {
    return answer_clock(device, type, 0, clock);
}

/* The highest clock of the part: a lock does not change it, and NVML has no call that reads a lock back. */
EXPORT nvmlReturn_t nvmlDeviceGetMaxClockInfo(nvmlDevice_t device, nvmlClockType_t type, unsigned int *clock) {
    return answer_clock(device, type, 1, clock);
}

EXPORT nvmlReturn_t nvmlDeviceGetClock(nvmlDevice_t device, nvmlClockType_t type, nvmlClockId_t id,
                                       unsigned int *clock) {
    if (id != NVML_CLOCK_ID_CURRENT && id != NVML_CLOCK_ID_CUSTOMER_BOOST_MAX) return NVML_ERROR_NOT_SUPPORTED;
    return answer_clock(device, type, id == NVML_CLOCK_ID_CUSTOMER_BOOST_MAX, clock);
}

EXPORT nvmlReturn_t nvmlDeviceGetSupportedMemoryClocks(nvmlDevice_t device, unsigned int *count,
                                                       unsigned int *clocks) {
    struct call call;
    nvmlReturn_t answer = call_begin(device, count, &call);
    if (answer != NVML_SUCCESS) return answer;
    unsigned room = *count;
    *count = 1;
    if (!clocks || room < 1) return call_end(&call, NVML_ERROR_INSUFFICIENT_SIZE);
    clocks[0] = (unsigned)lround(call.constants->memory_clock_megahertz);
    return call_end(&call, NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetSupportedGraphicsClocks(nvmlDevice_t device, unsigned int memory_clock,
                                                         unsigned int *count, unsigned int *clocks) {
    struct call call;
    nvmlReturn_t answer = call_begin(device, count, &call);
    if (answer != NVML_SUCCESS) return answer;
    if (memory_clock != (unsigned)lround(call.constants->memory_clock_megahertz))
        return call_end(&call, NVML_ERROR_NOT_FOUND);
    unsigned room = *count, low = (unsigned)lround(call.constants->clock_min_megahertz);
    unsigned high = (unsigned)lround(call.constants->clock_max_megahertz);
    unsigned step = (unsigned)lround(call.constants->clock_step_megahertz);
    *count = (high - low) / step + 1;
    if (!clocks || room < *count) return call_end(&call, NVML_ERROR_INSUFFICIENT_SIZE);
    for (unsigned i = 0; i < *count; i++) clocks[i] = high - i * step;
    return call_end(&call, NVML_SUCCESS);
}

/* To the nearest clock the part can run at. */
static double possible_clock(const struct gpu_constants *constants, unsigned megahertz) {
    double steps = round((constants->clock_max_megahertz - (double)megahertz) / constants->clock_step_megahertz);
    double clock = constants->clock_max_megahertz - steps * constants->clock_step_megahertz;
    return fmin(fmax(clock, constants->clock_min_megahertz), constants->clock_max_megahertz);
}

static nvmlReturn_t lock_clocks(nvmlDevice_t device, int reset, unsigned int low, unsigned int high) {
    struct call call;
    int ignored;
    nvmlReturn_t answer = call_begin_write(device, &call, &ignored);
    if (answer != NVML_SUCCESS) return answer;
    int symbolic = (low > SYMBOLIC_CLOCK_LIMITS) + (high > SYMBOLIC_CLOCK_LIMITS);
    if (!reset && (low > high || symbolic == 1)) return call_end(&call, NVML_ERROR_INVALID_ARGUMENT);
    if (!reset && symbolic) return call_end(&call, NVML_ERROR_NOT_SUPPORTED);
    call.gpu->set_count++;
    if (!ignored) {
        call.gpu->lock_low_megahertz = reset ? 0 : possible_clock(call.constants, low);
        call.gpu->lock_high_megahertz = reset ? 0 : possible_clock(call.constants, high);
        gpu_settle(call.gpu, call.constants);
    }
    return call_end(&call, NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceSetGpuLockedClocks(nvmlDevice_t device, unsigned int low, unsigned int high) {
    return lock_clocks(device, 0, low, high);
}

EXPORT nvmlReturn_t nvmlDeviceResetGpuLockedClocks(nvmlDevice_t device) { return lock_clocks(device, 1, 0, 0); }

EXPORT nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *utilization) {
    struct call call;
    nvmlReturn_t answer = call_begin(device, utilization, &call);
    if (answer != NVML_SUCCESS) return answer;
    const struct gpu_load *load = &call.gpu->load;
    double busy = load->active ? load->utilization_ratio : 0;
    utilization->gpu = (unsigned)lround(100 * busy);
    utilization->memory = (unsigned)lround(100 * busy * (1 - load->compute_bound_ratio)); /* what waits for memory */
    return call_end(&call, NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, nvmlTemperatureSensors_t sensor,
                                             unsigned int *temperature) {
    struct call call;
    if (sensor != NVML_TEMPERATURE_GPU) return NVML_ERROR_NOT_SUPPORTED;
    nvmlReturn_t answer = call_begin(device, temperature, &call);
    if (answer != NVML_SUCCESS) return answer;
    *temperature = (unsigned)fmax(lround(call.gpu->temperature_celsius), 0);
    return call_end(&call, NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, nvmlTemperature_t *temperature) {
    if (temperature && temperature->version != nvmlTemperature_v1) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    unsigned celsius;
    nvmlReturn_t answer = temperature ? nvmlDeviceGetTemperature(device, temperature->sensorType, &celsius)
                                      : NVML_ERROR_INVALID_ARGUMENT;
    if (answer == NVML_SUCCESS) temperature->temperature = (int)celsius;
    return answer;
}

EXPORT nvmlReturn_t nvmlDeviceGetTemperatureThreshold(nvmlDevice_t device, nvmlTemperatureThresholds_t threshold,
                                                      unsigned int *temperature) {
    struct call call;
    if (threshold != NVML_TEMPERATURE_THRESHOLD_SLOWDOWN) return NVML_ERROR_NOT_SUPPORTED;
    nvmlReturn_t answer = call_begin(device, temperature, &call);
    if (answer != NVML_SUCCESS) return answer;
    *temperature = (unsigned)lround(call.constants->thermal_slowdown_celsius);
    return call_end(&call, NVML_SUCCESS);
}

static nvmlReturn_t answer_reasons(nvmlDevice_t device, int supported, unsigned long long *reasons) {
    struct call call;
    nvmlReturn_t answer = call_begin(device, reasons, &call);
    if (answer != NVML_SUCCESS) return answer;
    *reasons = supported ? 0x1 | 0x4 | 0x8 | 0x20 | 0x40 | 0x80 : gpu_reasons(call.gpu);
    return call_end(&call, NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetCurrentClocksEventReasons(nvmlDevice_t device, unsigned long long *reasons) {
    return answer_reasons(device, 0, reasons);
}

EXPORT nvmlReturn_t nvmlDeviceGetSupportedClocksEventReasons(nvmlDevice_t device, unsigned long long *reasons) {
    return answer_reasons(device, 1, reasons);
}

EXPORT nvmlReturn_t nvmlDeviceGetCurrentClocksThrottleReasons(nvmlDevice_t device, unsigned long long *reasons) {
    return answer_reasons(device, 0, reasons);
}

EXPORT nvmlReturn_t nvmlDeviceGetSupportedClocksThrottleReasons(nvmlDevice_t device, unsigned long long *reasons) {
    return answer_reasons(device, 1, reasons);
}

EXPORT nvmlReturn_t nvmlDeviceGetPersistenceMode(nvmlDevice_t device, nvmlEnableState_t *mode) {
    struct call call;
    nvmlReturn_t answer = call_begin(device, mode, &call);
    if (answer != NVML_SUCCESS) return answer;
    *mode = call.gpu->persistence ? NVML_FEATURE_ENABLED : NVML_FEATURE_DISABLED;
    return call_end(&call, NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceSetPersistenceMode(nvmlDevice_t device, nvmlEnableState_t mode) {
    struct call call;
    int ignored;
    nvmlReturn_t answer = call_begin_write(device, &call, &ignored);
    if (answer != NVML_SUCCESS) return answer;
    if (!ignored) call.gpu->persistence = mode == NVML_FEATURE_ENABLED;
    return call_end(&call, NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetPerformanceState(nvmlDevice_t device, nvmlPstates_t *state) {
    struct call call;
    nvmlReturn_t answer = call_begin(device, state, &call);
    if (answer != NVML_SUCCESS) return answer;
    *state = NVML_PSTATE_0; /* data-centre parts idle in P0 */
    return call_end(&call, NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetComputeMode(nvmlDevice_t device, nvmlComputeMode_t *mode) {
    struct call call;
    nvmlReturn_t answer = call_begin(device, mode, &call);
    if (answer != NVML_SUCCESS) return answer;
    *mode = NVML_COMPUTEMODE_DEFAULT;
    return call_end(&call, NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned int *current, unsigned int *pending) {
    struct call call;
    nvmlReturn_t answer = call_begin(device, current && pending ? current : NULL, &call);
    if (answer != NVML_SUCCESS) return answer;
    *current = *pending = 0;
    return call_end(&call, NVML_SUCCESS);
}
