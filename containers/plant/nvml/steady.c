/* The steady state of one GPU: power, clock and throughput that load, limits and locks leave. */
#include <math.h>

#include "physics.h"

double gpu_idle_watts(const struct gpu *gpu, const struct gpu_constants *constants) {
    int resident = gpu->process_count > 0 || (gpu->load.active && gpu->load.resident);
    return resident ? constants->loaded_idle_watts : constants->idle_watts;
}

double gpu_clock_bound_ratio(const struct gpu *gpu, const struct gpu_constants *constants) {
    static const enum fault_kind slowdowns[] = {FAULT_HW_SLOWDOWN, FAULT_HW_THERMAL, FAULT_POWER_BRAKE};
    double bound = 1.0;
    if (gpu->lock_high_megahertz > 0)
        bound = fmin(bound, fmax(gpu->lock_high_megahertz / constants->clock_max_megahertz, 0.01));
    if (gpu->hot) bound = fmin(bound, constants->thermal_slowdown_ratio);
    for (unsigned i = 0; i < sizeof slowdowns / sizeof *slowdowns; i++)
        if (gpu_has_fault(gpu, slowdowns[i])) bound = fmin(bound, gpu->faults[slowdowns[i]].value);
    return bound;
}

struct operating_point gpu_operating_point(const struct gpu *gpu, const struct gpu_constants *constants,
                                           double allowance_watts) {
    const struct gpu_load *load = &gpu->load;
    double bound = gpu_clock_bound_ratio(gpu, constants), exponent = constants->clock_exponent;
    double fixed = load->static_watts, dynamic = load->demand_watts - fixed;
    double clock = bound, duty = 1.0, power = load->demand_watts;
    if (dynamic > 0) {
        if (allowance_watts < fixed + dynamic * pow(bound, exponent)) {
            double floor_ratio = fmin(constants->clock_min_ratio, bound);
            double share = fmax((allowance_watts - fixed) / dynamic, 0.0);
            clock = pow(share, 1 / exponent);
            if (clock < floor_ratio) { /* the clock goes no lower: the SMs pause instead */
                clock = floor_ratio;
                duty = fmin(fmax(share / pow(clock, exponent), constants->duty_min_ratio), 1.0);
            }
        }
        power = fixed + duty * dynamic * pow(clock, exponent);
    }
    double beta = load->compute_bound_ratio;
    return (struct operating_point){
        .power_watts = fmax(power, gpu_idle_watts(gpu, constants)),
        .performance_ratio = duty / ((1 - beta) + beta / clock),
        .clock_ratio = clock,
    };
}

struct targets gpu_targets(const struct gpu *gpu, const struct gpu_constants *constants) {
    double bound = gpu_clock_bound_ratio(gpu, constants), idle = gpu_idle_watts(gpu, constants);
    struct targets targets = {.power_watts = idle, .clock_megahertz = constants->clock_idle_megahertz};
    if (gpu->load.active) {
        double allowance = gpu->engaged ? constants->cap_tracking_ratio * gpu->active_limit_watts
                                        : constants->peak_ratio * constants->limit_max_watts;
        struct operating_point point = gpu_operating_point(gpu, constants, allowance);
        targets.power_watts = point.power_watts;
        targets.performance_ratio = point.performance_ratio;
        targets.clock_megahertz = point.clock_ratio * constants->clock_max_megahertz;
    } else if (gpu->process_count > 0) {
        targets.clock_megahertz = bound * constants->clock_max_megahertz;
    }
    /* A lock keeps the clock up while nothing runs, too. */
    if (!gpu->load.active) targets.clock_megahertz = fmax(targets.clock_megahertz, gpu->lock_low_megahertz);
    int load_went_away = !gpu->over && targets.power_watts < gpu->power_watts;
    targets.time_constant_seconds = gpu->engaged && !load_went_away ? constants->cap_time_constant_seconds
                                                                    : constants->load_time_constant_seconds;
    return targets;
}
