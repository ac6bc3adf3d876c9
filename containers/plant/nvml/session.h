/* What every NVML call goes through: is the library initialised, is the handle ours, is the GPU there. */
#ifndef PLANT_SESSION_H
#define PLANT_SESSION_H

#include "nvml_types.h"
#include "state.h"

#define EXPORT __attribute__((visibility("default")))

/* An open call on one GPU, advanced to now, under the node's lock. */
struct call {
    struct node *node;
    struct gpu *gpu;
    const struct gpu_constants *constants;
    unsigned slot;
};

/* Answers NVML_SUCCESS with an open call that call_end must close, or the error to return. */
nvmlReturn_t call_begin(nvmlDevice_t device, const void *result, struct call *call);
nvmlReturn_t call_end(struct call *call, nvmlReturn_t answer);

/* The same for calls that change a setting: permission and the write faults come first.  *ignored tells that the
 * write must be answered with success and forgotten. */
nvmlReturn_t call_begin_write(nvmlDevice_t device, struct call *call, int *ignored);

nvmlReturn_t session_node(struct node **node);
nvmlReturn_t session_handle(struct node *node, unsigned slot, nvmlDevice_t *device);
nvmlReturn_t text_answer(char *to, unsigned size, const char *text);

#endif
