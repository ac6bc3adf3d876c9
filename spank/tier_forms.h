/* The forms of the options about model tiers; option_forms.h has what they have in common with the others. */
#ifndef SLURM_POWER_TIER_FORMS_H
#define SLURM_POWER_TIER_FORMS_H

#include "option_forms.h"

#define POWER_TIERS_CHARACTERS 160 /* of a list of tiers, as written */

/* Each writes the normal form and returns NULL, or says what is wrong. tier_list takes no text that is longer
 * than POWER_TIERS_CHARACTERS. */
__attribute__((visibility("hidden"))) const char *power_tier(const char *text, char form[POWER_FORM_BYTES]);
__attribute__((visibility("hidden"))) const char *power_tier_list(const char *text,
								   char form[POWER_FORM_BYTES]);
__attribute__((visibility("hidden"))) const char *power_quality(const char *text, char form[POWER_FORM_BYTES]);

#endif
