#include "option_forms.h"
#include "tier_forms.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define LONGEST_VALUE 80
#define LONGEST_NUMBER 12 /* digits: no sum of the products below leaves 64 bits */
#define DAY_SECONDS 86400
#define MOST_HOLD_SECONDS (30 * (int64_t)DAY_SECONDS)
#define MOST_FINISH_SECONDS (366 * (int64_t)DAY_SECONDS)
#define MOST_CAP_WATTS 100000

#define WORKLOADS "training, inference, generation"
#define FLEXES "flex0, flex1, flex2, flex3"
#define HOLD_FORMS "minutes (30), MM:SS, HH:MM:SS, D-HH[:MM[:SS]], or a number with s, m, h or d (90s, 2h)"
#define FINISH_FORMS "YYYY-MM-DD[THH:MM[:SS]], HH:MM[:SS], now+N[minutes|hours|days] or @EPOCH"
#define CAP_FORMS "watts per GPU: 400, 400W or 0.4kW"

static const char NO_TIME[] = "is no time: " HOLD_FORMS;
static const char NO_MOMENT[] = "is no moment: " FINISH_FORMS;
static const char NO_POWER[] = "is no power: " CAP_FORMS;

/* Read a number of 1 to 12 digits and move on behind it; -1 where there is none. */
static int64_t take_number(const char **at)
{
	int64_t number = 0;
	int digits = 0;

	for (; **at >= '0' && **at <= '9'; (*at)++) {
		if (++digits > LONGEST_NUMBER)
			return -1;
		number = 10 * number + (**at - '0');
	}
	return digits ? number : -1;
}

/* Read up to three numbers with colons between them, to the end of the text; return how many, or -1. */
static int take_parts(const char *at, int64_t parts[3])
{
	for (int count = 0; count < 3; count++) {
		parts[count] = take_number(&at);
		if (parts[count] < 0)
			return -1;
		if (*at == '\0')
			return count + 1;
		if (*at++ != ':')
			return -1;
	}
	return -1;
}

static const char *one_of(const char *const words[], const char *text, const char *refusal, char *form)
{
	for (int i = 0; words[i]; i++) {
		if (strcmp(text, words[i]) == 0) {
			snprintf(form, POWER_FORM_BYTES, "%s", words[i]);
			return NULL;
		}
	}
	return refusal;
}

static const char *workload(const char *text, char *form)
{
	static const char *const words[] = { "training", "inference", "generation", NULL };

	return one_of(words, text, "is not one of " WORKLOADS, form);
}

static const char *flex(const char *text, char *form)
{
	static const char *const words[] = { "flex0", "flex1", "flex2", "flex3", NULL };

	if (text[0] >= '0' && text[0] <= '3' && text[1] == '\0')
		text = words[text[0] - '0'];
	return one_of(words, text, "is not one of " FLEXES, form);
}

/* "90s", "15m", "2h", "1d" in seconds; -1 for anything else. */
static int64_t with_unit(const char *text)
{
	int64_t number = take_number(&text);

	if (number < 0 || text[0] == '\0' || text[1] != '\0')
		return -1;
	switch (text[0] | 0x20) {
	case 's':
		return number;
	case 'm':
		return 60 * number;
	case 'h':
		return 3600 * number;
	case 'd':
		return DAY_SECONDS * number;
	default:
		return -1;
	}
}

/* Slurm's minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM, D-HH:MM:SS in seconds; -1 for anything else. */
static int64_t slurm_time(const char *text)
{
	const char *at = text;
	int64_t days = take_number(&at), parts[3] = { 0, 0, 0 };
	int count;

	if (days >= 0 && *at == '-') {
		count = take_parts(at + 1, parts);
		if (count < 0)
			return -1;
		for (int i = count; i < 3; i++)
			parts[i] = 0;
	} else {
		days = 0;
		count = take_parts(text, parts);
		if (count < 0)
			return -1;
		if (count < 3) {
			parts[2] = count == 2 ? parts[1] : 0;
			parts[1] = parts[0];
			parts[0] = 0;
		}
	}
	return ((days * 24 + parts[0]) * 60 + parts[1]) * 60 + parts[2];
}

static const char *max_hold(const char *text, char *form)
{
	int64_t seconds = with_unit(text);

	if (seconds < 0)
		seconds = slurm_time(text);
	if (seconds < 0)
		return NO_TIME;
	if (seconds > MOST_HOLD_SECONDS)
		return "is more than 30 days";
	snprintf(form, POWER_FORM_BYTES, "%" PRId64 "s", seconds);
	return NULL;
}

/* "60", "2hours" and so on behind "now+", in seconds; -1 for anything else. */
static int64_t from_now(const char *text)
{
	static const struct {
		const char *name;
		int64_t seconds;
	} units[] = {
		{ "second", 1 }, { "minute", 60 }, { "hour", 3600 }, { "day", DAY_SECONDS }, { "week", 604800 },
	};
	int64_t number = take_number(&text);

	if (number < 0)
		return -1;
	if (*text == '\0')
		return number;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		size_t length = strlen(units[i].name);

		if (strncmp(text, units[i].name, length) != 0)
			continue;
		if (strcmp(text + length, "") == 0 || strcmp(text + length, "s") == 0)
			return number * units[i].seconds;
	}
	return -1;
}

/* A local time of a day; a day that does not exist becomes another, and one of the past counts as well. */
static time_t local_time(const struct tm *day, const int64_t parts[3])
{
	struct tm wanted = {
		.tm_year = day->tm_year,
		.tm_mon = day->tm_mon,
		.tm_mday = day->tm_mday,
		.tm_hour = (int)parts[0],
		.tm_min = (int)parts[1],
		.tm_sec = (int)parts[2],
		.tm_isdst = -1,
	};

	return mktime(&wanted);
}

/* Read YYYY-MM-DD and move on behind it; false where there is no such day. */
static bool take_day(const char **at, struct tm *day)
{
	static const int64_t noon[3] = { 12, 0, 0 };
	const char *begin = *at;
	int64_t year = take_number(at), month, date;
	struct tm found;
	time_t seconds;

	if (year < 0 || *at - begin != 4 || *(*at)++ != '-')
		return false;
	month = take_number(at);
	if (month < 1 || month > 12 || *(*at)++ != '-')
		return false;
	date = take_number(at);
	if (date < 1 || date > 31)
		return false;
	*day = (struct tm){ .tm_year = (int)year - 1900, .tm_mon = (int)month - 1, .tm_mday = (int)date };
	seconds = local_time(day, noon);
	return localtime_r(&seconds, &found) && found.tm_mday == day->tm_mday && found.tm_mon == day->tm_mon;
}

/* A moment in seconds since the epoch, also one that has passed; -1 for a text that is none. */
static int64_t moment(const char *text, time_t now)
{
	int64_t parts[3] = { 0, 0, 0 }, seconds;
	struct tm day = { 0 };
	bool any_day = !strchr(text, '-');
	time_t at;
	int count;

	if (text[0] == '@') {
		text++;
		seconds = take_number(&text);
		return *text == '\0' ? seconds : -1;
	}
	if (now == 0)
		return -1;
	if (strncmp(text, "now+", 4) == 0) {
		seconds = from_now(text + 4);
		return seconds < 0 ? -1 : now + seconds;
	}
	if (!any_day) {
		if (!take_day(&text, &day))
			return -1;
		if (*text == '\0')
			return local_time(&day, parts);
		if (*text++ != 'T')
			return -1;
	} else if (!localtime_r(&now, &day)) {
		return -1;
	}
	count = take_parts(text, parts);
	if (count < 2 || parts[0] > 23 || parts[1] > 59)
		return -1;
	if (count == 2)
		parts[2] = 0;
	if (parts[2] > 59)
		return -1;
	at = local_time(&day, parts);
	if (any_day && at <= now) {
		day.tm_mday++; /* the next such */
		at = local_time(&day, parts);
	}
	return at;
}

static const char *finish_by(const char *text, time_t now, char *form)
{
	int64_t at = moment(text, now);

	if (at < 0)
		return NO_MOMENT;
	if (now != 0 && at <= now)
		return "is in the past";
	if (now != 0 && at > now + MOST_FINISH_SECONDS)
		return "is more than 366 days ahead";
	snprintf(form, POWER_FORM_BYTES, "@%" PRId64, at);
	return NULL;
}

/* The nearest whole number, the even one of two: without the mathematical library. */
static int64_t nearest(double value)
{
	int64_t whole = (int64_t)value;
	double rest = value - (double)whole;

	return whole + (rest > 0.5 || (rest == 0.5 && whole % 2 == 1));
}

static const char *power_cap(const char *text, char *form)
{
	int64_t number = take_number(&text), whole_watts;
	double watts = (double)number, scale = 1.0;

	if (number < 0)
		return NO_POWER;
	if (*text == '.') {
		const char *begin = ++text;
		int64_t decimals = take_number(&text);

		if (decimals < 0)
			return NO_POWER;
		for (; begin < text; begin++)
			scale *= 10.0;
		watts = ((double)number * scale + (double)decimals) / scale;
	}
	if (strcasecmp(text, "kW") == 0)
		watts *= 1000.0;
	else if (*text && strcasecmp(text, "W") != 0)
		return NO_POWER;
	whole_watts = nearest(watts);
	if (whole_watts < 1 || whole_watts > MOST_CAP_WATTS)
		return "is not between 1 W and 100 kW";
	snprintf(form, POWER_FORM_BYTES, "%" PRId64, whole_watts);
	return NULL;
}

const char *power_normal_form(enum power_option option, const char *text, time_t now,
			      char form[POWER_FORM_BYTES])
{
	form[0] = '\0';
	if (option == POWER_TIERS_OK) {
		if (strnlen(text, POWER_TIERS_CHARACTERS + 1) > POWER_TIERS_CHARACTERS)
			return "is longer than 160 characters";
	} else if (strnlen(text, LONGEST_VALUE + 1) > LONGEST_VALUE) {
		return "is longer than 80 characters";
	}
	switch (option) {
	case POWER_WORKLOAD:
		return workload(text, form);
	case POWER_FLEX:
		return flex(text, form);
	case POWER_MAX_HOLD:
		return max_hold(text, form);
	case POWER_FINISH_BY:
		return finish_by(text, now, form);
	case POWER_CAP:
		return power_cap(text, form);
	case POWER_TIER:
		return power_tier(text, form);
	case POWER_TIERS_OK:
		return power_tier_list(text, form);
	case POWER_MIN_QUALITY:
		return power_quality(text, form);
	case POWER_OPTIONS:
		break;
	}
	return "is for no option of ours";
}
