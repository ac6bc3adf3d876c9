/* Names by which NVML finds a GPU, made from the node's name and the slot, so that they outlive a restart. */
#ifndef PLANT_IDENTITY_H
#define PLANT_IDENTITY_H

#include <stdio.h>

#include "state.h"

enum { PCI_FIRST_BUS = 0x10, PCI_BUS_STEP = 0x0c, PCI_VENDOR_NVIDIA = 0x10de };

/* Each answers whether the text fitted. */
static inline int identity_uuid(const struct node_state *state, unsigned slot, char *text, unsigned size) {
    uint64_t seed = state->serial_seed;
    int length = snprintf(text, size, "GPU-%08x-%04x-4%03x-8%03x-%012x", (unsigned)(seed >> 32),
                          (unsigned)(seed >> 16) & 0xffff, (unsigned)(seed >> 4) & 0xfff, (unsigned)seed & 0xfff,
                          slot + 1);
    return length >= 0 && (unsigned)length < size;
}

static inline int identity_serial(const struct node_state *state, unsigned slot, char *text, unsigned size) {
    int length = snprintf(text, size, "165%010llu", (unsigned long long)(state->serial_seed % 100000000u * 100 + slot));
    return length >= 0 && (unsigned)length < size;
}

static inline unsigned identity_bus(unsigned slot) { return PCI_FIRST_BUS + PCI_BUS_STEP * slot; }

#endif
