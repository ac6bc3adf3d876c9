/* The number of GPUs in the environment of a job that has fewer of them than it was submitted with. */
#ifndef SLURM_POWER_GPU_WORDS_H
#define SLURM_POWER_GPU_WORDS_H

#define POWER_GPU_BYTES 128

enum power_gpus {
	POWER_GPUS_STAND, /* no more than the job has, or nothing that is understood */
	POWER_GPUS_FEWER, /* more: the form has the right number */
	POWER_GPUS_UNKNOWN, /* more, and nobody here knows how many the job's other nodes have */
};

/* asked: "4" or "h100:4", for all of so many nodes together; on_node: how many the job has on this one. */
__attribute__((visibility("hidden"))) enum power_gpus
power_gpu_word(const char *asked, const char *on_node, const char *nodes, char form[POWER_GPU_BYTES]);

#endif
