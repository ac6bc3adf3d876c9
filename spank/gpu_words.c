#include "gpu_words.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LONGEST_NUMBER 6 /* digits */

/* Whether a text is a number of few digits, and no sign, space or anything else. */
static bool take_number(const char *text, long *number)
{
	size_t digits = strspn(text, "0123456789");

	if (digits == 0 || digits > LONGEST_NUMBER || text[digits])
		return false;
	*number = strtol(text, NULL, 10);
	return true;
}

enum power_gpus power_gpu_word(const char *asked, const char *on_node, const char *nodes,
			       char form[POWER_GPU_BYTES])
{
	const char *colon = strrchr(asked, ':'), *digits = colon ? colon + 1 : asked;
	long number, here, places;

	if (!take_number(digits, &number) || !take_number(on_node, &here) || !take_number(nodes, &places))
		return POWER_GPUS_STAND;
	if (strchr(asked, ',') || here < 1 || places < 1 || number <= here * places)
		return POWER_GPUS_STAND;
	if (places > 1)
		return POWER_GPUS_UNKNOWN;
	if (snprintf(form, POWER_GPU_BYTES, "%.*s%ld", (int)(digits - asked), asked, here) >= POWER_GPU_BYTES)
		return POWER_GPUS_STAND;
	return POWER_GPUS_FEWER;
}
