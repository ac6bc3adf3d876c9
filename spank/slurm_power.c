/*
 * SPANK plugin: --workload and --flex for sbatch, srun and salloc, carried to hooks, job_submit and the job.
 *
 * The values come from the options, else from SLURM_POWER_WORKLOAD and SLURM_POWER_FLEX in the environment of the
 * submitting command (psbatch sets them). They arrive as SPANK_POWER_WORKLOAD and SPANK_POWER_FLEX in the prologs and
 * epilogs, as POWER_WORKLOAD and POWER_FLEX in job_submit's spank_job_env, and as SLURM_POWER_WORKLOAD and
 * SLURM_POWER_FLEX in the job itself.
 *
 * Only a wrong option ends a command. Everything else fails open: no job is lost for a word about power.
 *
 * Build: cc -std=gnu11 -Wall -Wextra -Werror -O2 -fPIC -shared -o slurm_power.so slurm_power.c
 * plugstack.conf: optional /path/to/slurm_power.so
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <slurm/slurm.h>
#include <slurm/slurm_errno.h>
#include <slurm/spank.h>

SPANK_PLUGIN(slurm_power, 1);

#define LONGEST_WORD 32 /* of a word and its end */

enum { WORKLOAD, FLEX, CHOICES };

struct choice {
	const char *option;
	const char *control; /* in hooks, behind SPANK_ */
	const char *variable; /* in the environment of the command and of the job */
	const char *known; /* for messages */
	const char *words[5];
	const char *chosen; /* one of words, or NULL; never the user's own text */
};

static struct choice choices[CHOICES] = {
	[WORKLOAD] = { "workload", "POWER_WORKLOAD", "SLURM_POWER_WORKLOAD", "training, inference, generation",
		       { "training", "inference", "generation", NULL }, NULL },
	[FLEX] = { "flex", "POWER_FLEX", "SLURM_POWER_FLEX", "flex0, flex1, flex2, flex3",
		   { "flex0", "flex1", "flex2", "flex3", NULL }, NULL },
};

/* Return the word that text stands for ("2" is "flex2"), or NULL. */
static const char *meant(const struct choice *choice, const char *text)
{
	for (int i = 0; choice->words[i]; i++) {
		if (strcmp(text, choice->words[i]) == 0)
			return choice->words[i];
	}
	if (choice == &choices[FLEX] && text[0] >= '0' && text[0] <= '3' && text[1] == '\0')
		return choice->words[text[0] - '0'];
	return NULL;
}

/* Slurm calls this for each option given, on the submitting side and again on the nodes. */
static int take_option(int which, const char *text, int remote)
{
	struct choice *choice;
	const char *word;

	if (which < 0 || which >= CHOICES)
		return 0;
	choice = &choices[which];
	word = text ? meant(choice, text) : NULL;
	if (word) {
		choice->chosen = word;
		return 0;
	}
	if (remote) /* it has passed the submitting side: an older or newer plugin there, no reason to fail a job */
		return 0;
	slurm_error("--%s: '%s' is not one of %s", choice->option, text ? text : "", choice->known);
	return -1;
}

static struct spank_option options[] = {
	{ "workload", "CLASS", "what the job does: training, inference or generation", 1, WORKLOAD, take_option },
	{ "flex", "FLEX", "how much the job may be slowed down or held to save power: flex0 (not at all) to flex3", 1,
	  FLEX, take_option },
	SPANK_OPTIONS_TABLE_END
};

/* Options must be registered in every context, else the nodes would refuse those they do not know. */
int slurm_spank_init(spank_t spank, int argc, char **argv)
{
	(void)argc;
	(void)argv;
	for (int i = 0; options[i].name; i++) {
		spank_err_t error = spank_option_register(spank, &options[i]);

		if (error != ESPANK_SUCCESS)
			slurm_verbose("slurm_power: --%s is not available: %s", options[i].name, spank_strerror(error));
	}
	return 0;
}

/* On the submitting side, where no option was given: take what psbatch put into the environment. */
static void take_from_environment(struct choice *choice)
{
	const char *text = getenv(choice->variable);

	if (!text || !*text)
		return;
	choice->chosen = meant(choice, text);
	if (!choice->chosen)
		slurm_info("warning: ignoring %s='%.40s': not one of %s", choice->variable, text, choice->known);
}

int slurm_spank_init_post_opt(spank_t spank, int argc, char **argv)
{
	spank_context_t context = spank_context();

	(void)argc;
	(void)argv;
	if (context != S_CTX_LOCAL && context != S_CTX_ALLOCATOR)
		return 0;
	for (int i = 0; i < CHOICES; i++) {
		spank_err_t error;

		if (!choices[i].chosen)
			take_from_environment(&choices[i]);
		if (!choices[i].chosen)
			continue;
		error = spank_job_control_setenv(spank, choices[i].control, choices[i].chosen, 1);
		if (error != ESPANK_SUCCESS)
			slurm_verbose("slurm_power: %s is not carried: %s", choices[i].control, spank_strerror(error));
		/* sbatch and salloc hand their own environment on to the job. */
		setenv(choices[i].variable, choices[i].chosen, 1);
	}
	return 0;
}

/* On the node, before the tasks start: what was chosen by an option, plainly in the job's environment. */
int slurm_spank_user_init(spank_t spank, int argc, char **argv)
{
	(void)argc;
	(void)argv;
	for (int i = 0; i < CHOICES; i++) {
		if (choices[i].chosen)
			spank_setenv(spank, choices[i].variable, choices[i].chosen, 1);
	}
	return 0;
}
