/*
 * SPANK plugin: what a job may and should do with power, said on sbatch, srun and salloc.
 *
 * The values come from the options, else from SLURM_POWER_... in the environment of the submitting command
 * (psbatch sets them). They travel in one normal form: as SPANK_POWER_... in the prologs and epilogs, as
 * POWER_... in job_submit's spank_job_env, and as SLURM_POWER_... in the job itself. At each start of the job
 * on a node powerd is asked what else belongs into the job's environment.
 *
 * Only a wrong option ends a command. Everything else fails open: no job is lost for a word about power.
 *
 * Build: make -C spank
 * plugstack.conf: optional /path/to/slurm_power.so [node_socket=PATH] [conf=PATH]
 */
#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <slurm/slurm.h>
#include <slurm/slurm_errno.h>
#include <slurm/spank.h>

#include "node_answer.h"
#include "option_forms.h"

SPANK_PLUGIN(slurm_power, 1);

#define SHOWN_BYTES 48 /* of a user's text in a message */

struct choice {
	const char *control; /* in hooks, behind SPANK_ */
	const char *variable; /* in the environment of the command and of the job */
	const char *inherited_from; /* where a job's own option reaches the commands in it */
	char *inherited; /* what stood there when this command began, until it has been offered; or NULL */
	char *around; /* what stood in variable then, or NULL */
	char chosen[POWER_FORM_BYTES]; /* the normal form of an option given, or "" */
};

#define CHOICE(name, option)                                             \
	{                                                                \
		.control = "POWER_" name, .variable = "SLURM_POWER_" name, \
		.inherited_from = "SLURM_SPANK__SLURM_SPANK_OPTION_slurm_power_" option \
	}

static struct choice choices[POWER_OPTIONS] = {
	[POWER_WORKLOAD] = CHOICE("WORKLOAD", "workload"),
	[POWER_FLEX] = CHOICE("FLEX", "flex"),
	[POWER_MAX_HOLD] = CHOICE("MAX_HOLD", "max_hold"),
	[POWER_FINISH_BY] = CHOICE("FINISH_BY", "finish_by"),
	[POWER_CAP] = CHOICE("CAP", "power_cap"),
	[POWER_TIER] = CHOICE("TIER", "tier"),
	[POWER_TIERS_OK] = CHOICE("TIERS_OK", "tiers_ok"),
	[POWER_MIN_QUALITY] = CHOICE("MIN_QUALITY", "min_quality"),
};

/* psbatch says by this that what stands around it about tiers is said of the job that it submits. */
#define SAID "SLURM_POWER_SAID"
#define MODEL "SLURM_POWER_MODEL"

/* Whether sbatch or salloc was started in a job, by hand: what that job's tier is says nothing of another job,
 * and nobody has said that this may be moved. */
static bool in_another_job;

static int take_option(int which, const char *text, int remote);

static struct spank_option options[] = {
	{ "workload", "CLASS", "what the job does: training, inference or generation", 1, POWER_WORKLOAD,
	  take_option },
	{ "flex", "FLEX", "how much it may be slowed down or held to save power: flex0 (not at all) to flex3", 1,
	  POWER_FLEX, take_option },
	{ "max-hold", "TIME", "hold the job for power no longer than this before its start; 0: not at all", 1,
	  POWER_MAX_HOLD, take_option },
	{ "finish-by", "TIME", "do not hold or slow the job for money past what it needs to finish by then", 1,
	  POWER_FINISH_BY, take_option },
	{ "power-cap", "WATTS", "cap each GPU of the job at so many watts from its start on", 1, POWER_CAP,
	  take_option },
	{ "tier", "TIER", "the model tier that the job runs, as FAMILY/TIER", 1, POWER_TIER, take_option },
	{ "tiers-ok", "TIERS", "lighter tiers of that family that it may be moved to: names, any or none", 1,
	  POWER_TIERS_OK, take_option },
	{ "min-quality", "NUMBER", "the least quality of such a tier, in the family's metric", 1,
	  POWER_MIN_QUALITY, take_option },
	SPANK_OPTIONS_TABLE_END
};

/* Make a user's text fit for a message. */
static const char *shown(const char *text, char buffer[SHOWN_BYTES])
{
	size_t i;

	for (i = 0; text[i] && i < SHOWN_BYTES - 4; i++)
		buffer[i] = isprint((unsigned char)text[i]) ? text[i] : '?';
	strcpy(buffer + i, text[i] ? "..." : "");
	return buffer;
}

/*
 * Slurm calls this for each option given, on the submitting side and again on the nodes. In a job it first
 * offers each command the job's own options, as they were once typed: "now+2hours" would mean another time by
 * now, and a moment that has passed must end no step and no submission. The environment has the normal form.
 */
static int take_option(int which, const char *text, int remote)
{
	char buffer[SHOWN_BYTES], form[POWER_FORM_BYTES];
	struct choice *choice;
	const char *problem;

	if (which < 0 || which >= POWER_OPTIONS)
		return 0;
	choice = &choices[which];
	if (!text)
		text = "";
	if (!remote && choice->inherited) {
		int same = strcmp(text, choice->inherited) == 0;

		free(choice->inherited);
		choice->inherited = NULL;
		if (same)
			return 0;
	}
	problem = power_normal_form((enum power_option)which, text, remote ? 0 : time(NULL), form);
	if (!problem) {
		strcpy(choice->chosen, form);
		return 0;
	}
	if (remote) /* it has passed the submitting side, and another version there: no reason to fail a job */
		return 0;
	slurm_error("--%s: '%s' %s", options[which].name, shown(text, buffer), problem);
	return -1;
}

static char *copy_of(const char *name)
{
	const char *text = getenv(name);

	return text && *text ? strdup(text) : NULL;
}

/* Options must be registered in every context, else the nodes would refuse those they do not know. */
int slurm_spank_init(spank_t spank, int argc, char **argv)
{
	spank_context_t context = spank_context();

	(void)argc;
	(void)argv;
	in_another_job = context == S_CTX_ALLOCATOR && getenv("SLURM_JOB_ID") && !getenv(SAID);
	if (context == S_CTX_ALLOCATOR)
		unsetenv(SAID);
	for (int i = 0; i < POWER_OPTIONS; i++) {
		spank_err_t error;

		if (context == S_CTX_LOCAL || context == S_CTX_ALLOCATOR) {
			choices[i].around = copy_of(choices[i].variable);
			choices[i].inherited = copy_of(choices[i].inherited_from);
		}
		error = spank_option_register(spank, &options[i]);
		if (error != ESPANK_SUCCESS)
			slurm_verbose("slurm_power: --%s is not available: %s", options[i].name, spank_strerror(error));
	}
	return 0;
}

/* Where no option was given: take what stood in the environment when the command began. */
static void take_from_environment(int which)
{
	struct choice *choice = &choices[which];
	char buffer[SHOWN_BYTES];
	const char *problem;

	if (!choice->around)
		return;
	problem = power_normal_form((enum power_option)which, choice->around, time(NULL), choice->chosen);
	if (!problem)
		return;
	choice->chosen[0] = '\0';
	/* A step changes nothing for its job any more, and its output is the user's. */
	if (spank_context() == S_CTX_LOCAL && getenv("SLURM_JOB_ID"))
		return;
	slurm_info("warning: ignoring %s='%s': %s", choice->variable, shown(choice->around, buffer), problem);
}

static bool is_about_tiers(int which)
{
	return which == POWER_TIER || which == POWER_TIERS_OK || which == POWER_MIN_QUALITY;
}

static void carry_to_hooks(spank_t spank)
{
	if (in_another_job)
		unsetenv(MODEL);
	for (int i = 0; i < POWER_OPTIONS; i++) {
		struct choice *choice = &choices[i];
		spank_err_t error;

		if (!choice->chosen[0] && in_another_job && is_about_tiers(i))
			unsetenv(choice->variable);
		else if (!choice->chosen[0])
			take_from_environment(i);
		if (!choice->chosen[0]) {
			spank_job_control_unsetenv(spank, choice->control); /* of the part of a het job before this one */
			continue;
		}
		error = spank_job_control_setenv(spank, choice->control, choice->chosen, 1);
		if (error != ESPANK_SUCCESS)
			slurm_verbose("slurm_power: %s is not carried: %s", choice->control, spank_strerror(error));
		/* The commands hand their own environment on to the job, whatever --export says. */
		setenv(choice->variable, choice->chosen, 1);
		choice->chosen[0] = '\0'; /* the next part of a het job has options of its own */
	}
}

/* Whether this step runs something of the user's: the container of a job's foreign processes does not. */
static int is_users_step(spank_t spank)
{
	uint32_t step;

	if (spank_get_item(spank, S_JOB_STEPID, &step) != ESPANK_SUCCESS)
		return 0;
	return step != SLURM_EXTERN_CONT && step != SLURM_PENDING_STEP;
}

/*
 * A job that was moved to another tier has other GPUs than it was submitted for, but these words of its submission
 * stand in its script's environment, and each srun in it would ask for the old number and fail.
 */
static void forget_gpus_before_move(spank_t spank, const struct power_variable *told)
{
	static const char *const asked[] = { "SLURM_GPUS", "SLURM_GPUS_PER_NODE" };
	char before[POWER_FORM_BYTES];

	if (strcmp(told->name, choices[POWER_TIER].variable) != 0 ||
	    spank_getenv(spank, told->name, before, sizeof(before)) != ESPANK_SUCCESS ||
	    strcmp(before, told->value) == 0)
		return;
	for (size_t i = 0; i < sizeof(asked) / sizeof(asked[0]); i++)
		spank_unsetenv(spank, asked[i]);
}

/* Put what powerd says of the job into its environment. */
static void ask_node(spank_t spank, int argc, char **argv)
{
	struct power_variable variables[POWER_MOST_VARIABLES];
	char path[POWER_PATH_BYTES], answer[POWER_ANSWER_BYTES];
	const char *problem;
	uint32_t job_id;
	size_t length;
	int count;

	if (spank_get_item(spank, S_JOB_ID, &job_id) != ESPANK_SUCCESS || !power_socket_path(argc, argv, path)) {
		slurm_verbose("slurm_power: powerd's socket is not known");
		return;
	}
	problem = power_ask_node(path, job_id, answer, &length);
	if (problem) {
		slurm_verbose("slurm_power: powerd at %s: %s", path, problem);
		return;
	}
	count = power_take_answer(answer, length, variables);
	if (count < 0)
		slurm_verbose("slurm_power: powerd at %s: its answer is not usable", path);
	for (int i = 0; i < count; i++) {
		forget_gpus_before_move(spank, &variables[i]);
		spank_setenv(spank, variables[i].name, variables[i].value, 1);
	}
}

/*
 * On the submitting side: carry the values. On a node, before anything of the job's runs, and still as root:
 * powerd keeps places for root's callers that users cannot take, and tells root of every job.
 */
int slurm_spank_init_post_opt(spank_t spank, int argc, char **argv)
{
	spank_context_t context = spank_context();

	if (context == S_CTX_LOCAL || context == S_CTX_ALLOCATOR)
		carry_to_hooks(spank);
	if (context != S_CTX_REMOTE || !is_users_step(spank))
		return 0;
	/* What the submitting side put into the environment is what was meant then: it stands. */
	for (int i = 0; i < POWER_OPTIONS; i++) {
		if (choices[i].chosen[0])
			spank_setenv(spank, choices[i].variable, choices[i].chosen, 0);
	}
	ask_node(spank, argc, argv);
	return 0;
}
