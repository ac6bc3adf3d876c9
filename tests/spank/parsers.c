/* The plugin's parsers, fed line by line from a test; texts come in hexadecimal, to hold anything.
 *   form OPTION NOW TEXT    prints the normal form, or "- " and why there is none
 *   answer TEXT             prints how many variables, then each as name=value
 *   path TEXT               prints the socket's path for an argument node_socket=TEXT, or "-" */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../spank/node_answer.h"
#include "../../spank/option_forms.h"

/* Turn hexadecimal into bytes in memory of just their size: a sanitizer sees any step too far. */
static char *bytes_of(const char *digits, size_t *length)
{
	char *bytes;

	*length = strlen(digits) / 2;
	bytes = malloc(*length + 1);
	for (size_t i = 0; i < *length; i++) {
		unsigned int byte;

		sscanf(digits + 2 * i, "%2x", &byte);
		bytes[i] = (char)byte;
	}
	bytes[*length] = '\0';
	return bytes;
}

static void form(char *line)
{
	enum power_option option = (enum power_option)strtol(strsep(&line, " "), NULL, 10);
	time_t now = strtol(strsep(&line, " "), NULL, 10);
	char written[POWER_FORM_BYTES], *text;
	const char *problem;
	size_t length;

	text = bytes_of(line, &length);
	problem = power_normal_form(option, text, now, written);
	printf("%s%s\n", problem ? "- " : "", problem ? problem : written);
	free(text);
}

static void answer(char *line)
{
	struct power_variable variables[POWER_MOST_VARIABLES];
	size_t length;
	char *text = bytes_of(line, &length);
	char *exact = malloc(length ? length : 1);
	int count;

	memcpy(exact, text, length);
	count = power_take_answer(exact, length, variables);
	printf("%d", count);
	for (int i = 0; i < count; i++)
		printf(" %s=%s", variables[i].name, variables[i].value);
	putchar('\n');
	free(exact);
	free(text);
}

static void path(char *line)
{
	char found[POWER_PATH_BYTES], *word, *text;
	size_t length;

	text = bytes_of(line, &length);
	word = malloc(length + sizeof("node_socket="));
	sprintf(word, "node_socket=%s", text);
	puts(power_socket_path(1, &word, found) ? found : "-");
	free(word);
	free(text);
}

int main(void)
{
	static char line[1 << 20];

	while (fgets(line, sizeof(line), stdin)) {
		char *rest = line, *kind;

		line[strcspn(line, "\n")] = '\0';
		kind = strsep(&rest, " ");
		if (!rest)
			return 64;
		if (strcmp(kind, "form") == 0)
			form(rest);
		else if (strcmp(kind, "answer") == 0)
			answer(rest);
		else
			path(rest);
	}
	return 0;
}
