/* drain_async.c: as drain_shared.c, with KEVENT_INIT_ASYNC: the library fills the ring as events
 * complete, and the threads make no call to get events while the ring has some.
 *
 *   drain_async PATH      binds a UNIX datagram socket; SIGTERM ends it
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

/* Records that a thread has taken: position P in the ring is slot P % SLOTS on lap P / SLOTS. */
static _Atomic uint64_t claimed;

static atomic_uint messages, expiries, signals;
static atomic_bool ended;

static void add(uint32_t type, uint64_t id, uint32_t events) {
    struct ukevent record = {.type = type, .event = events, .req_flags = KEVENT_REQ_ALWAYS_QUEUE};
    record.id.raw_u64 = id;
    if (kevent_ctl(queue, KEVENT_CTL_ADD, 1, &record) != 0) {
        fprintf(stderr, "drain_async: add: %s\n", strerror(-(int)record.ret_data[1]));
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

/* Another thread may commit the slot during the copy, and the library write to it. The copy is then
 * thrown away, but its words must be read as atomic ones. */
static void copy_slot(unsigned slot, struct ukevent* event) {
    const uint64_t* source = (const uint64_t*)&ring->event[slot];
    uint64_t words[sizeof *event / sizeof(uint64_t)];
    for (unsigned i = 0; i < sizeof words / sizeof *words; ++i)
        words[i] = __atomic_load_n(&source[i], __ATOMIC_RELAXED);
    memcpy(event, words, sizeof words);
}

/* One slot of the ring is always free, so the ring is empty where ring_kidx is the own position. */
static void* consume(void* unused) {
    const struct timespec for_ever = {.tv_sec = -1};
    while (!ended) {
        struct ukevent event;
        uint64_t position = claimed;
        unsigned slot = (unsigned)(position % SLOTS);
        if (__atomic_load_n(&ring->ring_kidx, __ATOMIC_ACQUIRE) == slot) {
            if (kevent_wait(queue, SLOTS, slot, for_ever, 0) < 0) break;
            continue;
        }
        copy_slot(slot, &event); /* first: after the claim another thread may commit it */
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
        fprintf(stderr, "usage: drain_async PATH\n");
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
        perror("drain_async: bind");
        return 1;
    }
    ring = malloc(sizeof *ring + SLOTS * sizeof(struct ukevent));
    queue = ring == NULL ? -1 : kevent_init(ring, SLOTS, KEVENT_INIT_ASYNC);
    if (queue < 0) {
        fprintf(stderr, "drain_async: kevent_init: %s\n", strerror(-queue));
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
    kevent_close(queue); /* first: until then the library writes to the ring */
    free(ring);
    return 0;
}
