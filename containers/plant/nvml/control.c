/* The plant's side: loads, processes, faults, the clock and the truth (control.h). */
#define _GNU_SOURCE
#include "control.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "identity.h"

int plant_create(const char *path, const char *node_name, unsigned gpu_count, const char *constants_text,
                 char *problem, unsigned problem_size) {
    struct gpu_constants constants;
    int wrong = constants_parse(constants_text, &constants, problem, problem_size);
    return wrong ? wrong : node_create(path, node_name, gpu_count, &constants);
}

int plant_retire(const char *path) { return node_retire(path); }
int plant_open(const char *path, struct node **node) { return node_open(path, node); }
void plant_close(struct node *node) { node_close(node); }

int plant_gpu_count(struct node *node, unsigned *count) {
    *count = node->state->gpu_count;
    return 0;
}

int plant_uuid(struct node *node, unsigned slot, char *text, unsigned size) {
    if (slot >= node->state->gpu_count) return EINVAL;
    return identity_uuid(node->state, slot, text, size) ? 0 : ENOSPC;
}

/* Open a change of one GPU; *gpu is NULL and the answer not 0 when there is none. */
static int begin(struct node *node, unsigned slot, struct gpu **gpu) {
    *gpu = NULL;
    if (slot >= node->state->gpu_count) return EINVAL;
    int problem = node_lock(node);
    if (!problem) *gpu = gpu_begin(node, slot);
    return problem;
}

static int commit(struct node *node, unsigned slot, struct gpu *gpu) {
    gpu_settle(gpu, &node->state->constants);
    gpu_commit(node, slot);
    node_unlock(node);
    return 0;
}

static double end_of(const struct gpu *gpu, double duration_seconds) {
    return duration_seconds < 0 ? INFINITY : gpu->now_seconds + duration_seconds;
}

int plant_set_load(struct node *node, unsigned slot, uint64_t owner, double demand_watts, double static_watts,
                   double compute_bound_ratio, double utilization_ratio, unsigned resident, double lease_seconds) {
    struct gpu *gpu;
    /* Written so that NaN fails, too. */
    int sane = demand_watts >= 0 && isfinite(demand_watts) && static_watts >= 0 && static_watts <= demand_watts &&
               compute_bound_ratio >= 0 && compute_bound_ratio <= 1 && utilization_ratio >= 0 &&
               utilization_ratio <= 1 && !isnan(lease_seconds);
    int problem = sane ? begin(node, slot, &gpu) : EINVAL;
    if (problem) return problem;
    gpu->load = (struct gpu_load){
        .demand_watts = demand_watts,
        .static_watts = static_watts,
        .compute_bound_ratio = compute_bound_ratio,
        .utilization_ratio = utilization_ratio,
        .expires_seconds = end_of(gpu, lease_seconds),
        .owner = owner,
        .active = 1,
        .resident = resident,
    };
    return commit(node, slot, gpu);
}

int plant_clear_load(struct node *node, unsigned slot, uint64_t owner) {
    struct gpu *gpu;
    int problem = begin(node, slot, &gpu);
    if (problem) return problem;
    /* The next job may have begun already: its load is not ours to end. */
    if (gpu->load.owner == owner) memset(&gpu->load, 0, sizeof gpu->load);
    return commit(node, slot, gpu);
}

int plant_add_process(struct node *node, unsigned slot, uint64_t owner, unsigned pid, uint64_t memory_bytes,
                      double lease_seconds) {
    struct gpu *gpu;
    int problem = isnan(lease_seconds) ? EINVAL : begin(node, slot, &gpu);
    if (problem) return problem;
    unsigned position = 0;
    while (position < gpu->process_count && gpu->processes[position].pid != pid) position++;
    if (position == MAX_PROCESSES) {
        node_unlock(node);
        return ENOSPC;
    }
    gpu->processes[position] = (struct gpu_process){
        .owner = owner, .memory_bytes = memory_bytes, .expires_seconds = end_of(gpu, lease_seconds), .pid = pid};
    if (position == gpu->process_count) gpu->process_count++;
    return commit(node, slot, gpu);
}

int plant_remove_process(struct node *node, unsigned slot, unsigned pid) {
    struct gpu *gpu;
    int problem = begin(node, slot, &gpu);
    if (problem) return problem;
    for (unsigned i = 0; i < gpu->process_count; i++)
        if (gpu->processes[i].pid == pid) gpu->processes[i].expires_seconds = gpu->now_seconds;
    return commit(node, slot, gpu);
}

int plant_set_fault(struct node *node, unsigned slot, unsigned kind, double value, double duration_seconds) {
    struct gpu *gpu;
    int is_ratio = kind == FAULT_HW_SLOWDOWN || kind == FAULT_HW_THERMAL || kind == FAULT_POWER_BRAKE;
    int sane = kind < FAULT_KINDS && isfinite(value) && !isnan(duration_seconds) &&
               (!is_ratio || (value > 0 && value <= 1)) && (kind == FAULT_HOT_AMBIENT || value >= 0);
    int problem = sane ? begin(node, slot, &gpu) : EINVAL;
    if (problem) return problem;
    gpu->faults[kind] = (struct gpu_fault){value, end_of(gpu, duration_seconds)};
    return commit(node, slot, gpu);
}

int plant_clear_fault(struct node *node, unsigned slot, unsigned kind) {
    struct gpu *gpu;
    int problem = kind < FAULT_KINDS ? begin(node, slot, &gpu) : EINVAL;
    if (problem) return problem;
    gpu->faults[kind] = (struct gpu_fault){0, 0};
    return commit(node, slot, gpu);
}

int plant_reload_driver(struct node *node, unsigned slot) {
    struct gpu *gpu;
    int problem = begin(node, slot, &gpu);
    if (problem) return problem;
    gpu->reset_energy_joules = gpu->energy_joules;
    gpu->capped_seconds = gpu->thermal_seconds = gpu->hw_thermal_seconds = gpu->brake_seconds = 0;
    gpu->limit_requested_watts = node->state->constants.limit_default_watts;
    gpu->lock_low_megahertz = gpu->lock_high_megahertz = 0;
    gpu->persistence = 0;
    return commit(node, slot, gpu);
}

int plant_foreign_limit(struct node *node, unsigned slot, double limit_watts) {
    struct gpu *gpu;
    const struct gpu_constants *constants = &node->state->constants;
    int sane = limit_watts >= constants->limit_min_watts && limit_watts <= constants->limit_max_watts;
    int problem = sane ? begin(node, slot, &gpu) : EINVAL;
    if (problem) return problem;
    gpu->limit_requested_watts = limit_watts;
    return commit(node, slot, gpu);
}

int plant_order(struct node *node, const unsigned *slots, unsigned count) {
    uint64_t order = 0;
    unsigned seen = 0;
    if (count != node->state->gpu_count) return EINVAL;
    for (unsigned index = 0; index < count; index++) {
        if (slots[index] >= count || seen >> slots[index] & 1) return EINVAL;
        seen |= 1u << slots[index];
        order |= (uint64_t)slots[index] << (4 * index);
    }
    int problem = node_lock(node);
    if (problem) return problem;
    __atomic_store_n(&node->state->index_to_slot, order, __ATOMIC_RELEASE);
    node_unlock(node);
    return 0;
}

/* Stop the clock at its present time, or let it run on from there. */
int plant_manual_clock(struct node *node, unsigned manual) {
    int problem = node_lock(node);
    if (problem) return problem;
    double now = node_now(node);
    if (manual) {
        node->state->manual_seconds = now;
        node->state->manual_clock = 1;
    } else if (node->state->manual_clock) {
        node->state->manual_clock = 0;
        node->state->offset_seconds += now - node_now(node);
    }
    node_unlock(node);
    return 0;
}

int plant_pass_time(struct node *node, double seconds) {
    if (!(seconds >= 0) || !isfinite(seconds)) return EINVAL;
    int problem = node_lock(node);
    if (problem) return problem;
    if (node->state->manual_clock) node->state->manual_seconds += seconds;
    else node->state->offset_seconds += seconds;
    node_unlock(node);
    return 0;
}

/* The order of plant_truth's values; the caller compares it with its own list before it trusts them. */
const char *plant_truth_names(void) {
    return "now_seconds instant_watts average_watts energy_joules counter_joules work_seconds performance_ratio "
           "clock_megahertz temperature_celsius limit_requested_watts limit_enforced_watts limit_active_watts "
           "lock_low_megahertz lock_high_megahertz capped_seconds load_active process_count set_count reasons";
}

int plant_truth(struct node *node, unsigned slot, double *values, unsigned count) {
    struct gpu *gpu;
    int problem = begin(node, slot, &gpu);
    if (problem) return problem;
    double truth[] = {
        gpu->now_seconds,
        gpu->power_watts,
        gpu_average_watts(gpu),
        gpu->energy_joules,
        gpu->energy_joules - gpu->reset_energy_joules,
        gpu->work_seconds,
        gpu->performance_ratio,
        gpu->clock_megahertz,
        gpu->temperature_celsius,
        gpu->limit_requested_watts,
        gpu->limit_enforced_watts,
        gpu->active_limit_watts,
        gpu->lock_low_megahertz,
        gpu->lock_high_megahertz,
        gpu->capped_seconds,
        gpu->load.active,
        gpu->process_count,
        (double)gpu->set_count,
        (double)gpu_reasons(gpu),
    };
    int fits = count == sizeof truth / sizeof *truth;
    if (fits) memcpy(values, truth, sizeof truth);
    commit(node, slot, gpu);
    return fits ? 0 : EINVAL;
}
