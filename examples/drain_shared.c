/* drain_shared.c: two threads drain one kevent queue through its ring: messages on a datagram
 * socket, a timer and signals.
 *
 *   drain_shared PATH     binds a UNIX datagram socket; SIGTERM ends it
 */
#include <kevring/kevent/kevent.h>

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define SLOTS 16u

static struct kevent_ring* ring;
static int queue;
static int listener;

/* Positions in the ring, counted from 0; position P is slot P % SLOTS on lap P / SLOTS. */
static _Atomic uint64_t placed;  /* records that kevent_wait() has put into the ring */
static _Atomic uint64_t claimed; /* records that a thread has taken */

static atomic_uint messages, expiries, signals;
static atomic_bool ended;

static void add(uint32_t type, uint64_t id, uint32_t events) {
    struct ukevent record = {.type = type, .event = events, .req_flags = KEVENT_REQ_ALWAYS_QUEUE};
    record.id.raw_u64 = id;
    if (kevent_ctl(queue, KEVENT_CTL_ADD, 1, &record) != 0) {
        fprintf(stderr, "drain_shared: add: %s\n", strerror(-(int)record.ret_data[1]));
        exit(1);
    }
}

/* Readiness is reported as an edge: a thread reads until nothing is left. */
static void drain_socket(void) {
    char text[256];
    ssize_t size;
    while ((size = recv(listener, text, sizeof text, MSG_DONTWAIT)) >= 0) {
        ++messages;
        printf("message %.*s\n", (int)size, text);
    }
}

static void handle(const struct ukevent* event) {
    switch (event->type) {
        case KEVENT_SOCKET: drain_socket(); break;
        case KEVENT_TIMER: expiries += event->ret_data[1]; break;
        case KEVENT_SIGNAL:
            if ((event->id.raw_u64 & ~KEVENT_SIGNAL_NOMASK) != SIGTERM) {
                ++signals;
                printf("signal\n");
                break;
            }
            ended = 1;
            kevent_ctl(queue, KEVENT_CTL_READY, 0, NULL); /* the other thread returns */
            break;
        default: break;
    }
}

/* After the claim another thread may commit the slot, and a third one have it filled. The copy is
 * thrown away then, but its words must be read as atomic ones. */
static void copy_slot(unsigned slot, struct ukevent* event) {
    const uint64_t* source = (const uint64_t*)&ring->event[slot];
    uint64_t words[sizeof *event / sizeof(uint64_t)];
    for (unsigned i = 0; i < sizeof words / sizeof *words; ++i)
        words[i] = __atomic_load_n(&source[i], __ATOMIC_RELAXED);
    memcpy(event, words, sizeof words);
}

/* Each thread moves one record at a time: records that it leaves wake the other thread. */
static void* consume(void* unused) {
    const struct timespec for_ever = {.tv_sec = -1};
    while (!ended) {
        struct ukevent event;
        uint64_t position = claimed;
        if (position == placed) {
            int count = kevent_wait(queue, 1, (unsigned)(position % SLOTS), for_ever, 0);
            if (count < 0) break;
            placed += (unsigned)count;
            continue;
        }
        copy_slot((unsigned)(position % SLOTS), &event); /* first: see copy_slot() */
        if (!atomic_compare_exchange_strong(&claimed, &position, position + 1)) continue;
        ++position;
        kevent_commit(queue, (unsigned)(position % SLOTS), (unsigned)(position / SLOTS));
        handle(&event);
    }
    return unused;
}

int main(int count, char** arguments) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    pthread_t second;
    sigset_t blocked;

    if (count != 2) {
        fprintf(stderr, "usage: drain_shared PATH\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    sigemptyset(&blocked); /* in all threads: the queue receives them */
    sigaddset(&blocked, SIGTERM);
    sigaddset(&blocked, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &blocked, NULL);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", arguments[1]);
    listener = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr*)&address, sizeof address) != 0) {
        perror("drain_shared: bind");
        return 1;
    }
    ring = malloc(sizeof *ring + SLOTS * sizeof(struct ukevent));
    queue = ring == NULL ? -1 : kevent_init(ring, SLOTS, 0);
    if (queue < 0) {
        fprintf(stderr, "drain_shared: kevent_init: %s\n", strerror(-queue));
        return 1;
    }
    add(KEVENT_SOCKET, (uint64_t)listener, KEVENT_SOCKET_RECV);
    add(KEVENT_TIMER, (uint64_t)5000000 << 32, KEVENT_TIMER_FIRED); /* raw[1]: 5 ms */
    add(KEVENT_SIGNAL, SIGUSR1 | KEVENT_SIGNAL_NOMASK, KEVENT_SIGNAL_DELIVERY);
    add(KEVENT_SIGNAL, SIGTERM | KEVENT_SIGNAL_NOMASK, KEVENT_SIGNAL_DELIVERY);
    printf("ready\n");

    if (pthread_create(&second, NULL, consume, NULL) != 0) return 1;
    consume(NULL);
    pthread_join(second, NULL);
    printf("messages: %u, signals: %u, timer: %s\n", (unsigned)messages, (unsigned)signals,
           expiries != 0 ? "yes" : "no");
    kevent_close(queue);
    free(ring);
    return 0;
}
