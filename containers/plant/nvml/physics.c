/* The motion of one GPU through time: events, exact integrals, the regulator, heat (PHYSICS.md, sections 3 to 7). */
#include "physics.h"

#include <math.h>
#include <string.h>

#define KNOT_STEP_SECONDS (1.0 / 32)
#define KNOT_MIN_STEP_SECONDS (1.0 / 64)
#define AVERAGE_WINDOW_SECONDS 1.0
#define MAX_STEP_SECONDS 1.0

int gpu_has_fault(const struct gpu *gpu, enum fault_kind kind) {
    return gpu->faults[kind].until_seconds > gpu->now_seconds;
}

static int hardware_slowdown(const struct gpu *gpu) {
    return gpu_has_fault(gpu, FAULT_HW_SLOWDOWN) || gpu_has_fault(gpu, FAULT_HW_THERMAL) ||
           gpu_has_fault(gpu, FAULT_POWER_BRAKE);
}

unsigned long long gpu_reasons(const struct gpu *gpu) {
    unsigned long long reasons = 0;
    if (!gpu->load.active) reasons |= 0x1;
    if (gpu->engaged && gpu->over) reasons |= 0x4;
    if (hardware_slowdown(gpu)) reasons |= 0x8;
    if (gpu->hot) reasons |= 0x20;
    if (gpu_has_fault(gpu, FAULT_HW_THERMAL)) reasons |= 0x40;
    if (gpu_has_fault(gpu, FAULT_POWER_BRAKE)) reasons |= 0x80;
    return reasons;
}

static void add_knot(struct gpu *gpu) {
    if (gpu->knot_count > 0) {
        unsigned last = (gpu->knot_first + gpu->knot_count - 1) % MAX_KNOTS;
        if (gpu->now_seconds < gpu->knots[last].at_seconds + KNOT_MIN_STEP_SECONDS) return;
    }
    if (gpu->knot_count == MAX_KNOTS) gpu->knot_first = (gpu->knot_first + 1) % MAX_KNOTS, gpu->knot_count--;
    unsigned next = (gpu->knot_first + gpu->knot_count++) % MAX_KNOTS;
    gpu->knots[next] = (struct energy_knot){gpu->now_seconds, gpu->energy_joules};
}

double gpu_average_watts(const struct gpu *gpu) {
    double from = gpu->now_seconds - AVERAGE_WINDOW_SECONDS;
    struct energy_knot later = {gpu->now_seconds, gpu->energy_joules};
    for (unsigned i = gpu->knot_count; i-- > 0;) {
        struct energy_knot knot = gpu->knots[(gpu->knot_first + i) % MAX_KNOTS];
        if (knot.at_seconds <= from && later.at_seconds > knot.at_seconds) {
            double slope_watts = (later.joules - knot.joules) / (later.at_seconds - knot.at_seconds);
            double then = knot.joules + slope_watts * (from - knot.at_seconds);
            return (gpu->energy_joules - then) / AVERAGE_WINDOW_SECONDS;
        }
        later = knot;
    }
    double span = gpu->now_seconds - later.at_seconds; /* the GPU is younger than the window */
    return span > 0 ? (gpu->energy_joules - later.joules) / span : gpu->power_watts;
}

/* Queue what the regulator will follow after the dead time. */
static void note_enforced_limit(struct gpu *gpu, const struct gpu_constants *constants) {
    double enforced = gpu->limit_requested_watts;
    if (gpu_has_fault(gpu, FAULT_OUT_OF_BAND_LIMIT))
        enforced = fmin(enforced, gpu->faults[FAULT_OUT_OF_BAND_LIMIT].value);
    if (enforced == gpu->limit_enforced_watts) return;
    gpu->limit_enforced_watts = enforced;
    if (gpu->pending_count == MAX_PENDING_LIMITS) {
        gpu->pending[MAX_PENDING_LIMITS - 1].watts = enforced;
        return;
    }
    gpu->pending[gpu->pending_count++] =
        (struct pending_limit){gpu->now_seconds + constants->cap_dead_time_seconds, enforced};
}

static int take_pending_limits(struct gpu *gpu) {
    int taken = 0;
    while (gpu->pending_count > 0 && gpu->pending[0].at_seconds <= gpu->now_seconds) {
        gpu->active_limit_watts = gpu->pending[0].watts;
        memmove(gpu->pending, gpu->pending + 1, --gpu->pending_count * sizeof *gpu->pending);
        taken = 1;
    }
    return taken;
}

static void end_leases(struct gpu *gpu) {
    if (gpu->load.active && gpu->load.expires_seconds <= gpu->now_seconds) memset(&gpu->load, 0, sizeof gpu->load);
    unsigned kept = 0;
    for (unsigned i = 0; i < gpu->process_count; i++)
        if (gpu->processes[i].expires_seconds > gpu->now_seconds) gpu->processes[kept++] = gpu->processes[i];
    gpu->process_count = kept;
}

/* Bring every decision that depends on an input or on the time up to date: leases, limits, the regulator. */
void gpu_settle(struct gpu *gpu, const struct gpu_constants *constants) {
    add_knot(gpu);
    end_leases(gpu);
    note_enforced_limit(gpu, constants);
    int limit_changed = take_pending_limits(gpu);
    double unbound_watts = gpu_idle_watts(gpu, constants);
    if (gpu->load.active) unbound_watts = gpu_operating_point(gpu, constants, INFINITY).power_watts;
    uint32_t over = unbound_watts > constants->cap_tracking_ratio * gpu->active_limit_watts;
    if (over && !gpu->over) gpu->over_since_seconds = gpu->now_seconds;
    if (!over && gpu->over) gpu->under_since_seconds = gpu->now_seconds;
    if (over && !gpu->over && limit_changed) gpu->engaged = 1; /* the dead time was the regulator's delay */
    gpu->over = over;
    if (over && gpu->now_seconds >= gpu->over_since_seconds + constants->regulator_delay_seconds) gpu->engaged = 1;
    if (!over && gpu->now_seconds >= gpu->under_since_seconds + constants->regulator_release_seconds)
        gpu->engaged = 0;
}

/* The first moment after now, and at most `to`, at which something changes by itself. */
static double next_event(const struct gpu *gpu, const struct gpu_constants *constants, double to) {
    double now = gpu->now_seconds, next = fmin(to, now + MAX_STEP_SECONDS);
    if (gpu->pending_count > 0) next = fmin(next, gpu->pending[0].at_seconds);
    if (gpu->load.active) next = fmin(next, gpu->load.expires_seconds);
    for (unsigned i = 0; i < gpu->process_count; i++) next = fmin(next, gpu->processes[i].expires_seconds);
    for (unsigned i = 0; i < FAULT_KINDS; i++)
        if (gpu->faults[i].until_seconds > now) next = fmin(next, gpu->faults[i].until_seconds);
    if (!gpu->engaged && gpu->over) next = fmin(next, gpu->over_since_seconds + constants->regulator_delay_seconds);
    if (gpu->engaged && !gpu->over)
        next = fmin(next, gpu->under_since_seconds + constants->regulator_release_seconds);
    /* Knots matter for the last second before `to` only; a long silence is crossed in big steps. */
    double knots_from = to - AVERAGE_WINDOW_SECONDS - 2 * KNOT_STEP_SECONDS;
    if (now >= knots_from) next = fmin(next, (floor(now / KNOT_STEP_SECONDS) + 1) * KNOT_STEP_SECONDS);
    else next = fmin(next, knots_from);
    return next > now ? next : to;
}

static void count_reasons(struct gpu *gpu, double span) {
    unsigned long long reasons = gpu_reasons(gpu);
    if (reasons & 0x4) gpu->capped_seconds += span;
    if (reasons & 0x20) gpu->thermal_seconds += span;
    if (reasons & 0x40) gpu->hw_thermal_seconds += span;
    if (reasons & 0x80) gpu->brake_seconds += span;
}

static void warm(struct gpu *gpu, const struct gpu_constants *constants, struct targets targets, double span) {
    double tau = targets.time_constant_seconds, tau_heat = constants->thermal_time_constant_seconds;
    double resistance = constants->thermal_resistance_celsius_per_watt;
    double ambient = constants->thermal_ambient_celsius;
    if (gpu_has_fault(gpu, FAULT_HOT_AMBIENT)) ambient += gpu->faults[FAULT_HOT_AMBIENT].value;
    double final = ambient + resistance * targets.power_watts;
    double fast = exp(-span / tau), slow = exp(-span / tau_heat);
    double drive = resistance * (gpu->power_watts - targets.power_watts) / tau_heat;
    gpu->temperature_celsius =
        final + (gpu->temperature_celsius - final) * slow + drive * (fast - slow) / (1 / tau_heat - 1 / tau);
}

/* Move over a span in which every target is constant. */
static void glide(struct gpu *gpu, const struct gpu_constants *constants, double until) {
    double span = until - gpu->now_seconds;
    struct targets targets = gpu_targets(gpu, constants);
    double tau = targets.time_constant_seconds, left = exp(-span / tau), lag = tau * -expm1(-span / tau);
    count_reasons(gpu, span);
    warm(gpu, constants, targets, span);
    gpu->energy_joules += targets.power_watts * span + (gpu->power_watts - targets.power_watts) * lag;
    gpu->work_seconds +=
        targets.performance_ratio * span + (gpu->performance_ratio - targets.performance_ratio) * lag;
    gpu->power_watts = targets.power_watts + (gpu->power_watts - targets.power_watts) * left;
    gpu->performance_ratio =
        targets.performance_ratio + (gpu->performance_ratio - targets.performance_ratio) * left;
    gpu->clock_megahertz = targets.clock_megahertz + (gpu->clock_megahertz - targets.clock_megahertz) * left;
    gpu->now_seconds = until;
    if (gpu->temperature_celsius >= constants->thermal_slowdown_celsius) gpu->hot = 1;
    if (gpu->temperature_celsius < constants->thermal_slowdown_celsius - constants->thermal_hysteresis_celsius)
        gpu->hot = 0;
}

void gpu_advance(struct gpu *gpu, const struct gpu_constants *constants, double to_seconds) {
    while (gpu->now_seconds < to_seconds) {
        double next = next_event(gpu, constants, to_seconds);
        glide(gpu, constants, next);
        gpu_settle(gpu, constants);
    }
}

void gpu_start(struct gpu *gpu, const struct gpu_constants *constants, double now_seconds) {
    memset(gpu, 0, sizeof *gpu);
    gpu->now_seconds = now_seconds;
    gpu->power_watts = constants->idle_watts;
    gpu->clock_megahertz = constants->clock_idle_megahertz;
    gpu->temperature_celsius =
        constants->thermal_ambient_celsius + constants->thermal_resistance_celsius_per_watt * constants->idle_watts;
    gpu->limit_requested_watts = gpu->limit_enforced_watts = gpu->active_limit_watts = constants->limit_default_watts;
    gpu->under_since_seconds = now_seconds;
    add_knot(gpu);
}
