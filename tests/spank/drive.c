/* Drive slurm_power.c without Slurm: stands in for the few functions it calls and checks what it does with them.
 * Usage: drive CONTEXT WORKLOAD FLEX   (context: 1 srun, 2 node, 3 sbatch and salloc; "-" gives no option)
 * Prints what reached the hooks (control), the job (job) and the process (process), one name=value a line. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <slurm/slurm.h>
#include <slurm/slurm_errno.h>
#include <slurm/spank.h>

static int context;
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

spank_err_t spank_setenv(spank_t spank, const char *name, const char *value, int overwrite)
{
	(void)spank;
	(void)overwrite;
	printf("job %s=%s\n", name, value);
	return getenv("REFUSE") ? ESPANK_NOSPACE : ESPANK_SUCCESS;
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

int main(int argc, char **argv)
{
	if (argc != 4)
		return 64;
	context = atoi(argv[1]);
	if (slurm_spank_init(NULL, 0, NULL) != 0)
		return 10;
	for (int i = 0; i < count; i++) {
		const char *text = argv[2 + i];

		if (strcmp(text, "-") == 0)
			continue;
		if (registered[i]->cb(registered[i]->val, text, context == S_CTX_REMOTE) != 0)
			return 11;
	}
	if (registered[0]->cb(99, "training", 0) != 0 || registered[0]->cb(-1, NULL, 0) != 0)
		return 12;
	if (slurm_spank_init_post_opt(NULL, 0, NULL) != 0)
		return 13;
	if (context == S_CTX_REMOTE && slurm_spank_user_init(NULL, 0, NULL) != 0)
		return 14;
	for (int i = 0; i < 2; i++) {
		static const char *names[] = { "SLURM_POWER_WORKLOAD", "SLURM_POWER_FLEX" };

		if (getenv(names[i]))
			printf("process %s=%s\n", names[i], getenv(names[i]));
	}
	return 0;
}
