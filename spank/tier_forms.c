#include "tier_forms.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define LONGEST_PART 32
#define MOST_TIERS 8
#define LONGEST_NUMBER 12 /* digits, as in the other numbers */
#define MOST_DIGITS 9
#define MOST_DECIMALS 6

#define TIER_FORMS "FAMILY/TIER, each of a to z, 0 to 9, dot, dash and underscore, 32 characters at most"
#define TIERS_FORMS "names of tiers with commas between them, any, or none"
#define QUALITY_FORMS "a number as 0.95, with at most 9 digits before and 6 behind the point"

static const char NO_TIER[] = "is no tier: " TIER_FORMS;
static const char NO_TIERS[] = "is no list of tiers: " TIERS_FORMS;
static const char NO_QUALITY[] = "is no quality: " QUALITY_FORMS;

/* Whether so many bytes are the name of a family or a tier. */
static bool is_name(const char *text, size_t length)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789._-";

	if (length == 0 || length > LONGEST_PART || strchr("._-", text[0]))
		return false;
	for (size_t i = 0; i < length; i++) {
		if (!text[i] || !strchr(letters, text[i]))
			return false;
	}
	return true;
}

const char *power_tier(const char *text, char form[POWER_FORM_BYTES])
{
	size_t family = strcspn(text, "/");

	if (text[family] != '/' || !is_name(text, family) || !is_name(text + family + 1, strlen(text + family + 1)))
		return NO_TIER;
	strcpy(form, text); /* two names and a stroke */
	return NULL;
}

static int in_order(const void *one, const void *other)
{
	return strcmp(*(char *const *)one, *(char *const *)other);
}

const char *power_tier_list(const char *text, char form[POWER_FORM_BYTES])
{
	char copy[POWER_TIERS_CHARACTERS + 1], *rest = copy, *name, *at = form;
	char *names[POWER_TIERS_CHARACTERS / 2 + 2];
	size_t count = 0, kept = 0;

	strcpy(copy, text);
	while ((name = strsep(&rest, ","))) {
		if (!is_name(name, strlen(name)))
			return NO_TIERS;
		names[count++] = name; /* each has a letter at least, so that all have a place */
	}
	qsort(names, count, sizeof(names[0]), in_order);
	for (size_t i = 0; i < count; i++) {
		if (kept == 0 || strcmp(names[i], names[kept - 1]) != 0)
			names[kept++] = names[i];
	}
	for (size_t i = 0; i < kept && kept > 1; i++) {
		if (strcmp(names[i], "any") == 0 || strcmp(names[i], "none") == 0)
			return "has other names beside any or none, which stand alone";
	}
	if (kept > MOST_TIERS)
		return "has more than 8 names";
	for (size_t i = 0; i < kept; i++) {
		if (i > 0)
			*at++ = ',';
		at = stpcpy(at, names[i]);
	}
	return NULL;
}

/* Move on behind the digits; return how many there are. */
static size_t take_digits(const char **at)
{
	size_t count = strspn(*at, "0123456789");

	*at += count;
	return count;
}

/* By its digits, so that no rounding is in it. */
const char *power_quality(const char *text, char form[POWER_FORM_BYTES])
{
	const char *at = text + (*text == '-'), *whole = at, *decimals;
	size_t digits = take_digits(&at), behind = 0;
	char *end = form;

	if (digits == 0 || digits > LONGEST_NUMBER)
		return NO_QUALITY;
	decimals = at;
	if (*at == '.') {
		decimals = ++at;
		behind = take_digits(&at);
		if (behind == 0 || behind > LONGEST_NUMBER)
			return NO_QUALITY;
	}
	if (*at != '\0')
		return NO_QUALITY;
	for (; digits > 1 && *whole == '0'; digits--)
		whole++;
	while (behind > 0 && decimals[behind - 1] == '0')
		behind--;
	if (digits > MOST_DIGITS || behind > MOST_DECIMALS)
		return NO_QUALITY;
	if (*text == '-' && (behind > 0 || *whole != '0'))
		*end++ = '-';
	memcpy(end, whole, digits);
	end += digits;
	if (behind > 0) {
		*end++ = '.';
		memcpy(end, decimals, behind);
		end += behind;
	}
	*end = '\0';
	return NULL;
}
