/* Drive slurm_power.c without Slurm: stands in for the few functions it calls and checks what they are given.
 * Usage: drive CONTEXT [OPTION=TEXT | / | node_socket=PATH | conf=PATH]...
 *   CONTEXT: 1 srun, 2 node, 3 sbatch and salloc
 *   OPTION=TEXT: the option is given, in this order;  /: here the next part of a het job begins
 *   the last two are arguments of plugstack.conf
 * STEP in the environment is the step's number on a node. Prints what reached the hooks (control), the job
 * (job) and the process (process), one name=value a line, and how many milliseconds the plugin took on a node. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <slurm/slurm.h>
#include <slurm/slurm_errno.h>
#include <slurm/spank.h>

#define JOB_ID 17

static spank_context_t context;
static struct spank_option *registered[8];
static int count;

spank_context_t spank_context(void)
{
	return context;
}

spank_err_t spank_option_register(spank_t spank, struct spank_option *option)
{
	(void)spank;
	registered[count++] = option;
	return getenv("REFUSE") ? ESPANK_ERROR : ESPANK_SUCCESS;
}

spank_err_t spank_job_control_setenv(spank_t spank, const char *name, const char *value, int overwrite)
{
	(void)spank;
	(void)overwrite;
	printf("control %s=%s\n", name, value);
	return getenv("REFUSE") ? ESPANK_NOSPACE : ESPANK_SUCCESS;
}

spank_err_t spank_job_control_unsetenv(spank_t spank, const char *name)
{
	(void)spank;
	(void)name;
	return ESPANK_ENV_NOEXIST;
}

spank_err_t spank_setenv(spank_t spank, const char *name, const char *value, int overwrite)
{
	(void)spank;
	printf("job %s=%s%s\n", name, value, overwrite ? "" : " unless set");
	return getenv("REFUSE") ? ESPANK_NOSPACE : ESPANK_SUCCESS;
}

spank_err_t spank_unsetenv(spank_t spank, const char *name)
{
	(void)spank;
	printf("job without %s\n", name);
	return ESPANK_SUCCESS;
}

/* The job's environment is the driver's own, under names of its own. */
spank_err_t spank_getenv(spank_t spank, const char *name, char *text, int size)
{
	char own[64];
	const char *value;

	(void)spank;
	snprintf(own, sizeof(own), "JOB_%s", name);
	value = getenv(own);
	if (!value)
		return ESPANK_ENV_NOEXIST;
	return snprintf(text, (size_t)size, "%s", value) < size ? ESPANK_SUCCESS : ESPANK_NOSPACE;
}

spank_err_t spank_get_item(spank_t spank, spank_item_t item, ...)
{
	va_list arguments;
	uint32_t *number;

	(void)spank;
	va_start(arguments, item);
	number = va_arg(arguments, uint32_t *);
	va_end(arguments);
	if (getenv("REFUSE") || (item != S_JOB_ID && item != S_JOB_STEPID))
		return ESPANK_NOT_AVAIL;
	*number = JOB_ID;
	if (item == S_JOB_STEPID)
		*number = getenv("STEP") ? (uint32_t)strtoul(getenv("STEP"), NULL, 0) : 0;
	return ESPANK_SUCCESS;
}

const char *spank_strerror(spank_err_t error)
{
	(void)error;
	return "refused";
}

static void print_error(const char *level, const char *format, va_list arguments)
{
	fprintf(stderr, "%s: ", level);
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
}

#define LOG_FUNCTION(name)                              \
	void name(const char *format, ...)              \
	{                                               \
		va_list arguments;                      \
		va_start(arguments, format);            \
		print_error(#name, format, arguments);  \
		va_end(arguments);                      \
	}
LOG_FUNCTION(slurm_error)
LOG_FUNCTION(slurm_info)
LOG_FUNCTION(slurm_verbose)

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Offer an option to the plugin as Slurm does; nonzero when it is refused. */
static int give(char *word)
{
	char *text = strchr(word, '=');

	if (!text)
		exit(64);
	*text++ = '\0';
	for (int i = 0; i < count; i++) {
		if (strcmp(registered[i]->name, word) == 0)
			return registered[i]->cb(registered[i]->val, text, context == S_CTX_REMOTE);
	}
	exit(65);
}

int main(int argc, char **argv)
{
	static const char *names[] = { "WORKLOAD", "FLEX", "MAX_HOLD", "FINISH_BY",
				       "CAP", "TIER", "TIERS_OK", "MIN_QUALITY" };
	char *arguments[8];
	int argument_count = 0;
	double began;

	if (argc < 2)
		return 64;
	context = (spank_context_t)atoi(argv[1]);
	for (int i = 2; i < argc; i++) {
		if (strncmp(argv[i], "node_socket=", 12) == 0 || strncmp(argv[i], "conf=", 5) == 0)
			arguments[argument_count++] = argv[i];
	}
	if (slurm_spank_init(NULL, argument_count, arguments) != 0)
		return 10;
	if (registered[0]->cb(99, "training", 0) != 0 || registered[0]->cb(-1, NULL, 0) != 0)
		return 12;
	for (int i = 2; i < argc; i++) {
		if (strncmp(argv[i], "node_socket=", 12) == 0 || strncmp(argv[i], "conf=", 5) == 0)
			continue;
		if (strcmp(argv[i], "/") == 0) {
			if (slurm_spank_init_post_opt(NULL, argument_count, arguments) != 0)
				return 13;
			puts("/");
		} else if (give(argv[i]) != 0) {
			return 11;
		}
	}
	began = seconds();
	if (slurm_spank_init_post_opt(NULL, argument_count, arguments) != 0)
		return 13;
	if (context == S_CTX_REMOTE)
		printf("took %.0f\n", 1000.0 * (seconds() - began));
	for (int i = 0; i < 8; i++) {
		char name[64];

		snprintf(name, sizeof(name), "SLURM_POWER_%s", names[i]);
		if (getenv(name))
			printf("process %s=%s\n", name, getenv(name));
	}
	return 0;
}
