/* The plant's side of the library, called through ctypes; not part of NVML.  All answer 0 or an errno value.
 * GPUs are named by slot, which never changes, not by NVML index.  Durations below 0 mean for ever.
 */
#ifndef PLANT_CONTROL_H
#define PLANT_CONTROL_H

#include <stdint.h>

#include "state.h"

#define EXPORT __attribute__((visibility("default")))

EXPORT int plant_create(const char *path, const char *node_name, unsigned gpu_count, const char *constants_text,
                        char *problem, unsigned problem_size);
EXPORT int plant_retire(const char *path);
EXPORT int plant_open(const char *path, struct node **node);
EXPORT void plant_close(struct node *node);
EXPORT int plant_gpu_count(struct node *node, unsigned *count);
EXPORT int plant_uuid(struct node *node, unsigned slot, char *text, unsigned size);

EXPORT int plant_set_load(struct node *node, unsigned slot, uint64_t owner, double demand_watts, double static_watts,
                          double compute_bound_ratio, double utilization_ratio, unsigned resident,
                          double lease_seconds);
EXPORT int plant_clear_load(struct node *node, unsigned slot, uint64_t owner);
EXPORT int plant_add_process(struct node *node, unsigned slot, uint64_t owner, unsigned pid, uint64_t memory_bytes,
                             double lease_seconds);
EXPORT int plant_remove_process(struct node *node, unsigned slot, unsigned pid);

EXPORT int plant_set_fault(struct node *node, unsigned slot, unsigned kind, double value, double duration_seconds);
EXPORT int plant_clear_fault(struct node *node, unsigned slot, unsigned kind);
EXPORT int plant_reload_driver(struct node *node, unsigned slot);
EXPORT int plant_foreign_limit(struct node *node, unsigned slot, double limit_watts);
EXPORT int plant_order(struct node *node, const unsigned *slots, unsigned count);

EXPORT int plant_manual_clock(struct node *node, unsigned manual);
EXPORT int plant_pass_time(struct node *node, double seconds);

EXPORT const char *plant_truth_names(void);
EXPORT int plant_truth(struct node *node, unsigned slot, double *values, unsigned count);

#endif
