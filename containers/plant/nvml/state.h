/* The shared state of one simulated node: what lies in the mapped file, and how it is reached.
 *
 * Units: watts, seconds, joules, degrees Celsius, megahertz, ratios 0..1.  PHYSICS.md holds the formulas.
 */
#ifndef PLANT_STATE_H
#define PLANT_STATE_H

#include <pthread.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    MAX_GPUS = 16,
    MAX_PROCESSES = 16,
    MAX_PENDING_LIMITS = 8,
    MAX_KNOTS = 80, /* more than one second of knots 1/64 s apart */
    TEXT_LENGTH = 64,
};
#define STATE_MAGIC 0x504c4e5431564d4cULL
#define STATE_VERSION 3u

/* Numbers given at creation; none has a default.  keys.c holds the list of names. */
struct gpu_constants {
    double idle_watts, loaded_idle_watts;
    double limit_min_watts, limit_max_watts, limit_default_watts;
    double cap_dead_time_seconds, cap_time_constant_seconds, load_time_constant_seconds;
    double regulator_delay_seconds, regulator_release_seconds, cap_tracking_ratio, peak_ratio;
    double clock_exponent, clock_min_ratio, duty_min_ratio;
    double clock_max_megahertz, clock_min_megahertz, clock_idle_megahertz, clock_step_megahertz;
    double memory_clock_megahertz;
    double thermal_ambient_celsius, thermal_resistance_celsius_per_watt, thermal_time_constant_seconds;
    double thermal_slowdown_celsius, thermal_hysteresis_celsius, thermal_slowdown_ratio;
    double memory_bytes, cuda_driver_version;
    char model_name[TEXT_LENGTH], driver_version[TEXT_LENGTH], nvml_version[TEXT_LENGTH];
};

enum fault_kind {
    FAULT_LOST,              /* every call answers GPU_IS_LOST */
    FAULT_SET_ERROR,         /* value: the NVML return code of every Set and Reset */
    FAULT_SET_IGNORED,       /* Set and Reset answer success and change nothing */
    FAULT_OUT_OF_BAND_LIMIT, /* value: watts */
    FAULT_SLOW_CALL,         /* value: seconds added to every call */
    FAULT_HOT_AMBIENT,       /* value: degrees added to the ambient temperature */
    FAULT_HW_SLOWDOWN,       /* value: highest clock ratio */
    FAULT_HW_THERMAL,        /* value: highest clock ratio */
    FAULT_POWER_BRAKE,       /* value: highest clock ratio */
    FAULT_KINDS,
};

struct gpu_fault {
    double value, until_seconds; /* active while now < until */
};

struct gpu_load {
    double demand_watts, static_watts, compute_bound_ratio, utilization_ratio, expires_seconds;
    uint64_t owner;
    uint32_t active, resident;
};

struct gpu_process {
    uint64_t owner, memory_bytes;
    double expires_seconds;
    uint32_t pid, padding;
};

struct pending_limit {
    double at_seconds, watts;
};

struct energy_knot {
    double at_seconds, joules;
};

struct gpu {
    double now_seconds;
    double power_watts, performance_ratio, clock_megahertz, temperature_celsius;
    double energy_joules, work_seconds, reset_energy_joules;
    double capped_seconds, thermal_seconds, hw_thermal_seconds, brake_seconds;
    double limit_requested_watts, limit_enforced_watts, active_limit_watts;
    double over_since_seconds, under_since_seconds;
    double lock_low_megahertz, lock_high_megahertz; /* 0: not locked */
    uint32_t engaged, over, hot, persistence;
    uint32_t pending_count, process_count, knot_first, knot_count;
    uint64_t set_count;
    struct gpu_load load;
    struct gpu_fault faults[FAULT_KINDS];
    struct pending_limit pending[MAX_PENDING_LIMITS];
    struct gpu_process processes[MAX_PROCESSES];
    struct energy_knot knots[MAX_KNOTS];
};

/* Two copies: a change is built in the spare one and published by one store, so that a writer that is killed
 * half way leaves the last whole state behind. */
struct gpu_cell {
    uint32_t current, padding;
    struct gpu copies[2];
};

struct node_state {
    uint64_t magic;
    uint32_t version, size_bytes, gpu_count, retired;
    uint64_t index_to_slot; /* four bits per NVML index */
    uint64_t serial_seed;
    uint32_t manual_clock, padding;
    double manual_seconds, offset_seconds; /* now = manual ? manual : CLOCK_MONOTONIC + offset */
    char node_name[TEXT_LENGTH];
    struct gpu_constants constants;
    struct gpu_cell cells[MAX_GPUS];
};

/* One mapping of one state file in this process. */
struct node {
    struct node_state *state;
    struct node *next;
    char *path;
    int file;
    dev_t device;
    ino_t inode;
    pthread_mutex_t mutex;
};

/* store.c.  All answer 0 or an errno value. */
int node_create(const char *path, const char *node_name, unsigned gpu_count, const struct gpu_constants *constants);
int node_open(const char *path, struct node **opened);
int node_retire(const char *path);
void node_close(struct node *node);
int node_lock(struct node *node);
void node_unlock(struct node *node);
int node_same_file(const struct node *node, const char *path);
double node_now(const struct node *node);
unsigned node_slot_of_index(const struct node *node, unsigned index);
unsigned node_index_of_slot(const struct node *node, unsigned slot);

/* Between begin and commit the caller holds the lock and owns *gpu, a spare copy advanced to now. */
struct gpu *gpu_begin(struct node *node, unsigned slot);
void gpu_commit(struct node *node, unsigned slot);

/* keys.c: "key=value" lines to constants; answers 0, or EINVAL with a sentence in problem. */
int constants_parse(const char *text, struct gpu_constants *constants, char *problem, size_t problem_size);

/* physics.c */
void gpu_start(struct gpu *gpu, const struct gpu_constants *constants, double now_seconds);
void gpu_advance(struct gpu *gpu, const struct gpu_constants *constants, double to_seconds);
void gpu_settle(struct gpu *gpu, const struct gpu_constants *constants); /* call after changing any input */
double gpu_average_watts(const struct gpu *gpu);
int gpu_has_fault(const struct gpu *gpu, enum fault_kind kind);
unsigned long long gpu_reasons(const struct gpu *gpu);

#endif
