/* The pieces of the physics that physics.c is put together from. */
#ifndef PLANT_PHYSICS_H
#define PLANT_PHYSICS_H

#include "state.h"

/* What the GPU is heading for under the present inputs. */
struct targets {
    double power_watts, performance_ratio, clock_megahertz, time_constant_seconds;
};

/* The steady state that an allowance leaves (PHYSICS.md, section 2). */
struct operating_point {
    double power_watts, performance_ratio, clock_ratio;
};

/* steady.c */
double gpu_idle_watts(const struct gpu *gpu, const struct gpu_constants *constants);
double gpu_clock_bound_ratio(const struct gpu *gpu, const struct gpu_constants *constants);
struct operating_point gpu_operating_point(const struct gpu *gpu, const struct gpu_constants *constants,
                                           double allowance_watts);
struct targets gpu_targets(const struct gpu *gpu, const struct gpu_constants *constants);

#endif
