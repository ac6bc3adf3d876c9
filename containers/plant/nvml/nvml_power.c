/* NVML: power, energy, limits, and the field values that carry them. */
#define _GNU_SOURCE
#include <math.h>
#include <time.h>

#include "session.h"

static unsigned milli(double value) { return (unsigned)llround(value * 1000); }

/* The counter starts at the last driver load. */
static unsigned long long counter_millijoules(const struct gpu *gpu) {
    return (unsigned long long)((gpu->energy_joules - gpu->reset_energy_joules) * 1000);
}

/* One reading in milliwatts: begin, one expression on the call, end. */
#define MILLIWATT_READ(NAME, WATTS)                                \
    EXPORT nvmlReturn_t NAME(nvmlDevice_t device, unsigned *out) { \
        struct call call;                                          \
        nvmlReturn_t answer = call_begin(device, out, &call);      \
        if (answer != NVML_SUCCESS) return answer;                 \
        *out = milli(WATTS);                                       \
        return call_end(&call, NVML_SUCCESS);                      \
    }

MILLIWATT_READ(nvmlDeviceGetPowerUsage, gpu_average_watts(call.gpu))
MILLIWATT_READ(nvmlDeviceGetPowerManagementLimit, call.gpu->limit_requested_watts)
MILLIWATT_READ(nvmlDeviceGetEnforcedPowerLimit, call.gpu->limit_enforced_watts)
MILLIWATT_READ(nvmlDeviceGetPowerManagementDefaultLimit, call.constants->limit_default_watts)

EXPORT nvmlReturn_t nvmlDeviceGetPowerManagementLimitConstraints(nvmlDevice_t device, unsigned int *low,
                                                                 unsigned int *high) {
    struct call call;
    nvmlReturn_t answer = call_begin(device, low && high ? low : NULL, &call);
    if (answer != NVML_SUCCESS) return answer;
    *low = milli(call.constants->limit_min_watts);
    *high = milli(call.constants->limit_max_watts);
    return call_end(&call, NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetPowerManagementMode(nvmlDevice_t device, nvmlEnableState_t *mode) {
    struct call call;
    nvmlReturn_t answer = call_begin(device, mode, &call);
    if (answer != NVML_SUCCESS) return answer;
    *mode = NVML_FEATURE_ENABLED;
    return call_end(&call, NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t device, unsigned long long *energy) {
    struct call call;
    nvmlReturn_t answer = call_begin(device, energy, &call);
    if (answer != NVML_SUCCESS) return answer;
    *energy = counter_millijoules(call.gpu);
    return call_end(&call, NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceSetPowerManagementLimit(nvmlDevice_t device, unsigned int limit) {
    struct call call;
    int ignored;
    nvmlReturn_t answer = call_begin_write(device, &call, &ignored);
    if (answer != NVML_SUCCESS) return answer;
    if (limit < milli(call.constants->limit_min_watts) || limit > milli(call.constants->limit_max_watts))
        return call_end(&call, NVML_ERROR_INVALID_ARGUMENT);
    call.gpu->set_count++;
    if (!ignored) {
        call.gpu->limit_requested_watts = limit / 1000.0;
        gpu_settle(call.gpu, call.constants);
    }
    return call_end(&call, NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceSetPowerManagementLimit_v2(nvmlDevice_t device, nvmlPowerValue_v2_t *value) {
    if (!value) return NVML_ERROR_INVALID_ARGUMENT;
    if (value->version != nvmlPowerValue_v2) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (value->powerScope != NVML_POWER_SCOPE_GPU) return NVML_ERROR_NOT_SUPPORTED;
    return nvmlDeviceSetPowerManagementLimit(device, value->powerValueMw);
}

static void answer_unsigned(nvmlFieldValue_t *field, double watts) {
    field->valueType = NVML_VALUE_TYPE_UNSIGNED_INT;
    field->value.uiVal = milli(watts);
}

static void answer_long(nvmlFieldValue_t *field, unsigned long long value) {
    field->valueType = NVML_VALUE_TYPE_UNSIGNED_LONG_LONG;
    field->value.ullVal = value;
}

static unsigned long long nanoseconds(double seconds) { return (unsigned long long)(seconds * 1e9); }

static nvmlReturn_t answer_field(const struct call *call, nvmlFieldValue_t *field) {
    const struct gpu *gpu = call->gpu;
    field->value.ullVal = 0;
    switch (field->fieldId) {
    case NVML_FI_DEV_POWER_AVERAGE: answer_unsigned(field, gpu_average_watts(gpu)); break;
    case NVML_FI_DEV_POWER_INSTANT: answer_unsigned(field, gpu->power_watts); break;
    case NVML_FI_DEV_POWER_MIN_LIMIT: answer_unsigned(field, call->constants->limit_min_watts); break;
    case NVML_FI_DEV_POWER_MAX_LIMIT: answer_unsigned(field, call->constants->limit_max_watts); break;
    case NVML_FI_DEV_POWER_DEFAULT_LIMIT: answer_unsigned(field, call->constants->limit_default_watts); break;
    case NVML_FI_DEV_POWER_CURRENT_LIMIT: answer_unsigned(field, gpu->limit_enforced_watts); break;
    case NVML_FI_DEV_POWER_REQUESTED_LIMIT: answer_unsigned(field, gpu->limit_requested_watts); break;
    case NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION:
    case 191: answer_long(field, counter_millijoules(gpu)); break; /* the same counter under its newer number */
    case NVML_FI_DEV_PERF_POLICY_POWER: answer_long(field, nanoseconds(gpu->capped_seconds)); break;
    case NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN:
        answer_long(field, nanoseconds(gpu->thermal_seconds));
        break;
    case NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN:
        answer_long(field, nanoseconds(gpu->hw_thermal_seconds));
        break;
    case NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN:
        answer_long(field, nanoseconds(gpu->brake_seconds));
        break;
    default: return NVML_ERROR_NOT_SUPPORTED;
    }
    return field->scopeId == NVML_POWER_SCOPE_GPU ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED;
}

/* Each entry has an answer of its own; the call succeeds even when every one of them is unknown. */
EXPORT nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int count, nvmlFieldValue_t *values) {
    struct call call;
    if (count <= 0) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t answer = call_begin(device, values, &call);
    if (answer != NVML_SUCCESS) return answer;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    for (int i = 0; i < count; i++) {
        values[i].timestamp = now.tv_sec * 1000000LL + now.tv_nsec / 1000;
        values[i].latencyUsec = 0;
        values[i].nvmlReturn = answer_field(&call, &values[i]);
    }
    return call_end(&call, NVML_SUCCESS);
}
