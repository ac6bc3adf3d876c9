/* "key=value" lines to the constants of a GPU model: every key exactly once, none unknown. */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "state.h"

struct key {
    const char *name;
    size_t offset;
    int is_text;
};
#define NUMBER(field) {#field, offsetof(struct gpu_constants, field), 0}
#define WORDS(field) {#field, offsetof(struct gpu_constants, field), 1}

static const struct key keys[] = {
    NUMBER(idle_watts),
    NUMBER(loaded_idle_watts),
    NUMBER(limit_min_watts),
    NUMBER(limit_max_watts),
    NUMBER(limit_default_watts),
    NUMBER(cap_dead_time_seconds),
    NUMBER(cap_time_constant_seconds),
    NUMBER(load_time_constant_seconds),
    NUMBER(regulator_delay_seconds),
    NUMBER(regulator_release_seconds),
    NUMBER(cap_tracking_ratio),
    NUMBER(peak_ratio),
    NUMBER(clock_exponent),
    NUMBER(clock_min_ratio),
    NUMBER(duty_min_ratio),
    NUMBER(clock_max_megahertz),
    NUMBER(clock_min_megahertz),
    NUMBER(clock_idle_megahertz),
    NUMBER(clock_step_megahertz),
    NUMBER(memory_clock_megahertz),
    NUMBER(thermal_ambient_celsius),
    NUMBER(thermal_resistance_celsius_per_watt),
    NUMBER(thermal_time_constant_seconds),
    NUMBER(thermal_slowdown_celsius),
    NUMBER(thermal_hysteresis_celsius),
    NUMBER(thermal_slowdown_ratio),
    NUMBER(memory_bytes),
    NUMBER(cuda_driver_version),
    WORDS(model_name),
    WORDS(driver_version),
    WORDS(nvml_version),
};
enum { KEY_COUNT = sizeof keys / sizeof *keys };

static const struct key *find_key(const char *name, size_t length, unsigned *position) {
    for (*position = 0; *position < KEY_COUNT; ++*position)
        if (strlen(keys[*position].name) == length && !strncmp(keys[*position].name, name, length))
            return &keys[*position];
    return NULL;
}

static int parse_line(const char *line, size_t length, struct gpu_constants *constants, char *seen) {
    const char *equals = memchr(line, '=', length);
    unsigned position;
    if (!equals) return 0;
    const struct key *key = find_key(line, (size_t)(equals - line), &position);
    if (!key || seen[position]) return 0;
    seen[position] = 1;
    const char *value = equals + 1;
    size_t value_length = length - (size_t)(value - line);
    char text[TEXT_LENGTH];
    if (value_length < 1 || value_length >= sizeof text) return 0;
    memcpy(text, value, value_length);
    text[value_length] = 0;
    if (key->is_text) {
        memcpy((char *)constants + key->offset, text, value_length + 1);
        return 1;
    }
    char *end;
    double number = strtod(text, &end);
    if (*end || !isfinite(number) || number < 0) return 0;
    memcpy((char *)constants + key->offset, &number, sizeof number);
    return 1;
}

/* Relations without which the formulas divide by zero or the limits make no sense. */
static const char *contradiction(const struct gpu_constants *c) {
    if (c->limit_min_watts > c->limit_default_watts || c->limit_default_watts > c->limit_max_watts)
        return "limit_min_watts <= limit_default_watts <= limit_max_watts does not hold";
    if (c->cap_time_constant_seconds <= 0 || c->load_time_constant_seconds <= 0) return "a time constant is zero";
    if (c->thermal_time_constant_seconds <= c->cap_time_constant_seconds ||
        c->thermal_time_constant_seconds <= c->load_time_constant_seconds)
        return "thermal_time_constant_seconds must be above the electrical ones";
    if (c->clock_exponent <= 0 || c->clock_max_megahertz <= 0 || c->clock_step_megahertz < 1)
        return "clock_exponent, clock_max_megahertz or clock_step_megahertz too small";
    if (c->clock_min_ratio <= 0 || c->clock_min_ratio > 1 || c->duty_min_ratio > 1 || c->cap_tracking_ratio <= 0)
        return "clock_min_ratio, duty_min_ratio or cap_tracking_ratio out of range";
    if (c->thermal_slowdown_ratio <= 0 || c->thermal_slowdown_ratio > 1) return "thermal_slowdown_ratio out of range";
    return NULL;
}

int constants_parse(const char *text, struct gpu_constants *constants, char *problem, size_t problem_size) {
    char seen[KEY_COUNT] = {0};
    memset(constants, 0, sizeof *constants);
    while (*text) {
        size_t length = strcspn(text, "\n");
        if (length > 0 && !parse_line(text, length, constants, seen)) {
            snprintf(problem, problem_size, "unknown, repeated or bad: %.*s", (int)length, text);
            return EINVAL;
        }
        text += length + (text[length] == '\n');
    }
    for (unsigned i = 0; i < KEY_COUNT; i++)
        if (!seen[i]) {
            snprintf(problem, problem_size, "missing: %s", keys[i].name);
            return EINVAL;
        }
    const char *wrong = contradiction(constants);
    if (wrong) snprintf(problem, problem_size, "%s", wrong);
    return wrong ? EINVAL : 0;
}
