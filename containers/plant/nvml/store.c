/* The mapped state file: creation, opening, and one lock for all processes of a node.
 *
 * The lock is an open-file-description record lock (F_OFD_SETLKW) inside a mutex of the process.  The kernel drops it
 * when its owner dies, and it knows nothing of process ids, so it also holds between PID namespaces, where a
 * robust mutex does not.  A forked child must not share its parent's file description, be it by a descriptor or by a
 * mapping: the lock of a killed parent would live on in the child.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "state.h"

static pthread_mutex_t nodes_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct node *nodes;

static void before_fork(void) {
    pthread_mutex_lock(&nodes_mutex);
    for (struct node *node = nodes; node; node = node->next) pthread_mutex_lock(&node->mutex);
}

static void after_fork_in_parent(void) {
    for (struct node *node = nodes; node; node = node->next) pthread_mutex_unlock(&node->mutex);
    pthread_mutex_unlock(&nodes_mutex);
}

/* Open the node's file anew; answers 0 or errno.  The file must still be the one that is mapped. */
static int reopen(struct node *node) {
    struct stat found;
    int file = open(node->path, O_RDWR | O_CLOEXEC);
    if (file < 0) return errno;
    if (fstat(file, &found) || found.st_dev != node->device || found.st_ino != node->inode) {
        close(file);
        return ESTALE;
    }
    node->file = file;
    return 0;
}

static void after_fork_in_child(void) {
    for (struct node *node = nodes; node; node = node->next) {
        if (node->file >= 0) close(node->file); /* else this child would keep its dead parent's lock alive */
        node->file = -1;
        (void)reopen(node); /* now, while it may still have its parent's rights; node_lock tries again */
    }
    after_fork_in_parent();
}

__attribute__((constructor(500))) static void watch_forks(void) {
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

static int record_lock(int file, short type) {
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_len = 1};
    while (fcntl(file, F_OFD_SETLKW, &lock))
        if (errno != EINTR) return errno;
    return 0;
}

int node_lock(struct node *node) {
    pthread_mutex_lock(&node->mutex);
    int problem = node->file < 0 ? reopen(node) : 0;
    if (!problem) problem = record_lock(node->file, F_WRLCK);
    if (!problem && node->state->retired) {
        record_lock(node->file, F_UNLCK);
        problem = ESTALE;
    }
    if (problem) pthread_mutex_unlock(&node->mutex);
    return problem;
}

void node_unlock(struct node *node) {
    record_lock(node->file, F_UNLCK);
    pthread_mutex_unlock(&node->mutex);
}

double node_now(const struct node *node) {
    if (node->state->manual_clock) return node->state->manual_seconds;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9 + node->state->offset_seconds;
}

unsigned node_slot_of_index(const struct node *node, unsigned index) {
    return (unsigned)(node->state->index_to_slot >> (4 * index)) & 0xf;
}

unsigned node_index_of_slot(const struct node *node, unsigned slot) {
    unsigned index = 0;
    while (index + 1 < node->state->gpu_count && node_slot_of_index(node, index) != slot) index++;
    return index;
}

struct gpu *gpu_begin(struct node *node, unsigned slot) {
    struct gpu_cell *cell = &node->state->cells[slot];
    struct gpu *spare = &cell->copies[1 - (cell->current & 1)];
    *spare = cell->copies[cell->current & 1];
    gpu_advance(spare, &node->state->constants, node_now(node));
    return spare;
}

void gpu_commit(struct node *node, unsigned slot) {
    struct gpu_cell *cell = &node->state->cells[slot];
    __atomic_store_n(&cell->current, 1 - (cell->current & 1), __ATOMIC_RELEASE);
}

static uint64_t hash_text(const char *text) { /* FNV-1a */
    uint64_t hash = 0xcbf29ce484222325ULL;
    for (; *text; text++) hash = (hash ^ (unsigned char)*text) * 0x100000001b3ULL;
    return hash;
}

static void fill(struct node_state *state, const char *node_name, unsigned gpu_count,
                 const struct gpu_constants *constants) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    state->version = STATE_VERSION;
    state->size_bytes = sizeof *state;
    state->gpu_count = gpu_count;
    state->serial_seed = hash_text(node_name);
    state->constants = *constants;
    snprintf(state->node_name, sizeof state->node_name, "%s", node_name);
    for (unsigned slot = 0; slot < MAX_GPUS; slot++) state->index_to_slot |= (uint64_t)slot << (4 * slot);
    for (unsigned slot = 0; slot < gpu_count; slot++)
        gpu_start(&state->cells[slot].copies[0], constants, (double)now.tv_sec + (double)now.tv_nsec * 1e-9);
    state->magic = STATE_MAGIC;
}

/* Write the whole file under another name and link it into place: nobody ever sees half of it. */
int node_create(const char *path, const char *node_name, unsigned gpu_count, const struct gpu_constants *constants) {
    if (gpu_count < 1 || gpu_count > MAX_GPUS) return EINVAL;
    struct node_state *state = calloc(1, sizeof *state);
    char *draft = NULL;
    if (!state || asprintf(&draft, "%s.%ld.new", path, (long)getpid()) < 0) {
        free(state);
        return ENOMEM;
    }
    fill(state, node_name, gpu_count, constants);
    int problem = 0;
    int file = open(draft, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file < 0) problem = errno;
    if (!problem && write(file, state, sizeof *state) != (ssize_t)sizeof *state) problem = errno ? errno : EIO;
    /* Jobs of any user set their load and advance the physics: the file is writable by all, whatever the umask. */
    if (!problem && fchmod(file, 0666)) problem = errno;
    if (!problem && link(draft, path)) problem = errno;
    if (file >= 0) close(file), unlink(draft);
    free(draft);
    free(state);
    return problem;
}

static int map_file(struct node *node) {
    struct stat found;
    node->file = open(node->path, O_RDWR | O_CLOEXEC);
    if (node->file < 0) return errno;
    if (fstat(node->file, &found)) return errno;
    if (found.st_size != (off_t)sizeof *node->state) return EBADMSG;
    node->device = found.st_dev;
    node->inode = found.st_ino;
    void *mapped = mmap(NULL, sizeof *node->state, PROT_READ | PROT_WRITE, MAP_SHARED, node->file, 0);
    if (mapped == MAP_FAILED) return errno;
    node->state = mapped;
    /* The mapping keeps its file description alive, in forked children too: lock through another one. */
    close(node->file);
    node->file = -1;
    int problem = reopen(node);
    if (problem) return problem;
    int ours = node->state->magic == STATE_MAGIC && node->state->version == STATE_VERSION;
    if (!ours) return EBADMSG;
    return node->state->retired ? ESTALE : 0;
}

int node_open(const char *path, struct node **opened) {
    struct node *node = calloc(1, sizeof *node);
    if (!node) return ENOMEM;
    node->file = -1;
    node->path = realpath(path, NULL); /* the process may change its directory before it forks */
    int problem = node->path ? map_file(node) : errno;
    if (problem) {
        if (node->state) munmap(node->state, sizeof *node->state);
        if (node->file >= 0) close(node->file);
        free(node->path);
        free(node);
        return problem;
    }
    pthread_mutex_init(&node->mutex, NULL);
    pthread_mutex_lock(&nodes_mutex);
    node->next = nodes;
    nodes = node;
    pthread_mutex_unlock(&nodes_mutex);
    *opened = node;
    return 0;
}

void node_close(struct node *node) {
    pthread_mutex_lock(&nodes_mutex);
    for (struct node **link = &nodes; *link; link = &(*link)->next)
        if (*link == node) {
            *link = node->next;
            break;
        }
    pthread_mutex_unlock(&nodes_mutex);
    munmap(node->state, sizeof *node->state);
    if (node->file >= 0) close(node->file);
    pthread_mutex_destroy(&node->mutex);
    free(node->path);
    free(node);
}

int node_same_file(const struct node *node, const char *path) {
    struct stat found;
    if (stat(path, &found)) return 0;
    return found.st_dev == node->device && found.st_ino == node->inode && !node->state->retired;
}

int node_retire(const char *path) {
    struct node *node;
    int problem = node_open(path, &node);
    if (problem) return problem;
    problem = node_lock(node);
    if (!problem) {
        node->state->retired = 1;
        if (unlink(path)) problem = errno;
        node_unlock(node);
    }
    node_close(node);
    return problem;
}
