/* Asks powerd on this node what belongs into the environment of a job, and lets nothing else in.
 * docs/protocol.md describes the request and the answer. */
#ifndef SLURM_POWER_NODE_ANSWER_H
#define SLURM_POWER_NODE_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define POWER_INTERNAL __attribute__((visibility("hidden")))
#define POWER_PATH_BYTES 108 /* of a Unix socket's path and its end */
#define POWER_ANSWER_BYTES 8192
#define POWER_ASK_MILLISECONDS 200
#define POWER_MOST_VARIABLES 16

struct power_variable {
	const char *name;
	const char *value;
};

/* Find powerd's socket: an argument node_socket=PATH of plugstack.conf, else the line of slurm-power.conf,
 * which lies beside slurm.conf or where an argument conf=PATH says. %n becomes the node's name. */
POWER_INTERNAL bool power_socket_path(int argc, char **argv, char path[POWER_PATH_BYTES]);

/* Send powerd one request and read its answer to the end, within 200 ms; return NULL, or what went wrong. */
POWER_INTERNAL const char *power_ask_node(const char *path, uint32_t job_id,
					  char answer[POWER_ANSWER_BYTES], size_t *length);

/* Take an answer apart in place; return how many variables it holds, or -1: then nothing of it is good. */
POWER_INTERNAL int power_take_answer(char *answer, size_t length,
				     struct power_variable variables[POWER_MOST_VARIABLES]);

#endif
