/* What a user may write behind each of our options, and the normal form that travels. Touches neither Slurm
 * nor files. psbatch has parsers of its own; tests/option_forms_cases.py holds them together. */
#ifndef SLURM_POWER_OPTION_FORMS_H
#define SLURM_POWER_OPTION_FORMS_H

#include <time.h>

#define POWER_FORM_BYTES 161 /* of the longest normal form and its end */

enum power_option {
	POWER_WORKLOAD,
	POWER_FLEX,
	POWER_MAX_HOLD,
	POWER_FINISH_BY,
	POWER_CAP,
	POWER_TIER,
	POWER_TIERS_OK,
	POWER_MIN_QUALITY,
	POWER_OPTIONS
};

/* Write the normal form of a text into form; return NULL, or what is wrong with it ("is no power: ...").
 * now is the wall clock; 0 stands for a node, where the text was judged before: relative and local times
 * mean nothing there any more, and a moment may have passed. */
__attribute__((visibility("hidden")))
const char *power_normal_form(enum power_option option, const char *text, time_t now,
			      char form[POWER_FORM_BYTES]);

#endif
