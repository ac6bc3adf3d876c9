/* A second SPANK plugin beside ours: has an option of its own, notes what it sees, and gets in nobody's way.
 * plugstack.conf: optional witness.so log=FILE [name=WORD] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <slurm/slurm.h>
#include <slurm/spank.h>

SPANK_PLUGIN(witness, 1);

static char seen[64];
static const char *log_file, *name = "witness";

static int take(int which, const char *text, int remote)
{
	(void)which;
	(void)remote;
	if (!text || strlen(text) >= sizeof(seen) || strcmp(text, "wrong") == 0)
		return -1;
	strcpy(seen, text);
	return 0;
}

static struct spank_option option = { "witness", "WORD", "a word to be seen again", 1, 0, take };

/* One line for each call: who, which call, context, option, and one of our variables in this process. */
static void note(const char *call)
{
	FILE *file = log_file ? fopen(log_file, "a") : NULL;
	const char *flex = getenv("SLURM_POWER_FLEX");

	if (!file)
		return;
	fprintf(file, "%s %s %d %s %s\n", name, call, spank_context(), seen[0] ? seen : "-", flex ? flex : "-");
	fclose(file);
}

int slurm_spank_init(spank_t spank, int argc, char **argv)
{
	for (int i = 0; i < argc; i++) {
		if (strncmp(argv[i], "log=", 4) == 0)
			log_file = argv[i] + 4;
		if (strncmp(argv[i], "name=", 5) == 0)
			name = argv[i] + 5;
	}
	return spank_option_register(spank, &option) == ESPANK_SUCCESS ? 0 : -1;
}

int slurm_spank_init_post_opt(spank_t spank, int argc, char **argv)
{
	spank_context_t context = spank_context();

	(void)argc;
	(void)argv;
	note("post_opt");
	if (seen[0] && (context == S_CTX_LOCAL || context == S_CTX_ALLOCATOR))
		spank_job_control_setenv(spank, "WITNESS", seen, 1);
	return 0;
}

int slurm_spank_user_init(spank_t spank, int argc, char **argv)
{
	(void)argc;
	(void)argv;
	note("user_init");
	if (seen[0])
		spank_setenv(spank, "WITNESS", seen, 1);
	return 0;
}
