#include "node_answer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define DEFAULT_CONF "/etc/slurm/slurm-power.conf"
#define DEFAULT_SOCKET "/run/slurm-power/powerd.sock"
#define PREFIX "SLURM_POWER_"
#define LONGEST_NAME 40 /* behind the prefix */
#define LONGEST_VALUE 256
#define MOST_CONF_BYTES 65536

static int64_t now_milliseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Put a path together, with the node's name for each %n; false if it does not fit. */
static bool fill_in(const char *pattern, size_t length, char path[POWER_PATH_BYTES])
{
	const char *node = getenv("SLURMD_NODENAME");
	char host[256] = "";
	size_t used = 0, name_length;

	if (!node || !*node) {
		if (gethostname(host, sizeof(host) - 1) != 0)
			return false;
		host[strcspn(host, ".")] = '\0';
		node = host;
	}
	name_length = strlen(node);
	for (size_t i = 0; i < length; i++) {
		bool is_name = pattern[i] == '%' && i + 1 < length && pattern[i + 1] == 'n';
		size_t more = is_name ? name_length : 1;

		if (more >= POWER_PATH_BYTES - used)
			return false;
		memcpy(path + used, is_name ? node : pattern + i, more);
		used += more;
		i += is_name;
	}
	path[used] = '\0';
	return used > 0;
}

/* Read a plain file of "key=value" lines; the value of one key, spaces around it taken off. */
static bool value_of(const char *file, const char *key, char path[POWER_PATH_BYTES])
{
	static char text[MOST_CONF_BYTES + 1];
	int descriptor = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat status;
	ssize_t length = -1;
	char *rest = text;

	if (descriptor < 0)
		return false;
	if (fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode))
		length = read(descriptor, text, MOST_CONF_BYTES);
	close(descriptor);
	if (length < 0)
		return false;
	text[length] = '\0';
	for (char *line; (line = strsep(&rest, "\n"));) {
		char *value = strchr(line, '=');
		size_t end;

		line += strspn(line, " \t");
		if (!value || strncmp(line, key, strlen(key)) != 0)
			continue;
		line += strlen(key);
		if (line + strspn(line, " \t") != value)
			continue;
		value += 1 + strspn(value + 1, " \t\r");
		end = strlen(value);
		while (end && strchr(" \t\r", value[end - 1]))
			end--;
		return fill_in(value, end, path);
	}
	return fill_in(DEFAULT_SOCKET, sizeof(DEFAULT_SOCKET) - 1, path);
}

bool power_socket_path(int argc, char **argv, char path[POWER_PATH_BYTES])
{
	static const char socket_word[] = "node_socket=", conf_word[] = "conf=", name[] = "/slurm-power.conf";
	const char *slurm_conf = getenv("SLURM_CONF"), *slash;
	char file[4096] = DEFAULT_CONF;

	for (int i = 0; i < argc; i++) {
		if (strncmp(argv[i], socket_word, sizeof(socket_word) - 1) == 0) {
			const char *given = argv[i] + sizeof(socket_word) - 1;

			return fill_in(given, strlen(given), path);
		}
	}
	slash = slurm_conf ? strrchr(slurm_conf, '/') : NULL;
	if (slash && (size_t)(slash - slurm_conf) < sizeof(file) - sizeof(name)) {
		memcpy(file, slurm_conf, (size_t)(slash - slurm_conf));
		memcpy(file + (slash - slurm_conf), name, sizeof(name));
	}
	for (int i = 0; i < argc; i++) {
		if (strncmp(argv[i], conf_word, sizeof(conf_word) - 1) == 0)
			return value_of(argv[i] + sizeof(conf_word) - 1, "node_socket", path);
	}
	return value_of(file, "node_socket", path) || value_of(DEFAULT_CONF, "node_socket", path);
}

/* Wait until the socket is ready, or the time is over. */
static bool ready(int connection, short events, int64_t until)
{
	for (;;) {
		struct pollfd wanted = { .fd = connection, .events = events };
		int64_t left = until - now_milliseconds();
		int found;

		if (left <= 0)
			return false;
		found = poll(&wanted, 1, (int)left);
		if (found > 0)
			return true;
		if (found == 0 || errno != EINTR)
			return false;
	}
}

static const char *converse(int connection, const char *request, size_t request_length,
			    char answer[POWER_ANSWER_BYTES], size_t *length, int64_t until)
{
	for (size_t sent = 0; sent < request_length;) {
		ssize_t count = send(connection, request + sent, request_length - sent, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (count >= 0)
			sent += (size_t)count;
		else if (errno == EAGAIN && !ready(connection, POLLOUT, until))
			return "it does not listen in time";
		else if (errno != EAGAIN && errno != EINTR)
			return strerror(errno);
	}
	for (*length = 0; *length < POWER_ANSWER_BYTES;) {
		ssize_t count;

		if (!ready(connection, POLLIN, until))
			return "it does not answer in time";
		count = recv(connection, answer + *length, POWER_ANSWER_BYTES - *length, MSG_DONTWAIT);
		if (count > 0)
			*length += (size_t)count;
		else if (count == 0)
			return NULL;
		else if (errno != EAGAIN && errno != EINTR)
			return strerror(errno);
	}
	return "it says too much";
}

const char *power_ask_node(const char *path, uint32_t job_id, char answer[POWER_ANSWER_BYTES], size_t *length)
{
	int64_t until = now_milliseconds() + POWER_ASK_MILLISECONDS;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const char *problem;
	char request[64];
	int connection, request_length;

	*length = 0;
	if (strlen(path) >= sizeof(address.sun_path))
		return "its socket's path is too long";
	strcpy(address.sun_path, path);
	request_length = snprintf(request, sizeof(request), "{\"op\":\"environment\",\"job_id\":\"%u\"}\n", job_id);
	connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (connection < 0)
		return strerror(errno);
	/* A Unix socket connects at once, or not at all where its queue is full. */
	if (connect(connection, (const struct sockaddr *)&address, sizeof(address)) != 0)
		problem = strerror(errno);
	else
		problem = converse(connection, request, (size_t)request_length, answer, length, until);
	close(connection);
	return problem;
}

/* Whether a name is SLURM_POWER_ and 1 to 40 of A to Z and _, up to end. */
static bool good_name(const char *name, const char *end)
{
	size_t prefix = sizeof(PREFIX) - 1;

	if ((size_t)(end - name) <= prefix || (size_t)(end - name) > prefix + LONGEST_NAME)
		return false;
	if (memcmp(name, PREFIX, prefix) != 0)
		return false;
	for (name += prefix; name < end; name++) {
		if ((*name < 'A' || *name > 'Z') && *name != '_')
			return false;
	}
	return true;
}

static bool good_value(const char *value, const char *end)
{
	if (end - value > LONGEST_VALUE)
		return false;
	for (; value < end; value++) {
		if (*value < 0x20 || *value > 0x7e)
			return false;
	}
	return true;
}

int power_take_answer(char *answer, size_t length, struct power_variable variables[POWER_MOST_VARIABLES])
{
	char *at = answer, *end = answer + length;

	for (int count = 0; at < end; count++) {
		char *newline = memchr(at, '\n', (size_t)(end - at)), *equals;

		if (!newline)
			return -1;
		/* The last line is a dot alone: without it something is missing. */
		if (newline - at == 1 && *at == '.')
			return newline + 1 == end ? count : -1;
		equals = memchr(at, '=', (size_t)(newline - at));
		if (count == POWER_MOST_VARIABLES || !equals || !good_name(at, equals) || !good_value(equals + 1, newline))
			return -1;
		*equals = *newline = '\0';
		variables[count] = (struct power_variable){ .name = at, .value = equals + 1 };
		at = newline + 1;
	}
	return -1;
}
