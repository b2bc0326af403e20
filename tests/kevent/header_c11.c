/* header_c11.c: kevent.h is plain C11, and has the layout and the values of 2006. */
#include <kevring/kevent/kevent.h>

#include <poll.h>

#define SAME(a, b) _Static_assert((a) == (b), #a " == " #b)

/* K-001 */
SAME(sizeof(struct kevent_change), 264);
SAME(sizeof(struct kevent_id), 8);
SAME(_Alignof(struct kevent_id), 8);
SAME(offsetof(struct kevent_id, raw[0]), 0);
SAME(offsetof(struct kevent_id, raw[1]), 4);
SAME(offsetof(struct kevent_id, raw_u64), 0);

/* K-002 */
SAME(sizeof(struct ukevent), 40);
SAME(_Alignof(struct ukevent), 8);
SAME(offsetof(struct ukevent, id), 0);
SAME(offsetof(struct ukevent, type), 8);
SAME(offsetof(struct ukevent, event), 12);
SAME(offsetof(struct ukevent, req_flags), 16);
SAME(offsetof(struct ukevent, ret_flags), 20);
SAME(offsetof(struct ukevent, ret_data), 24);
SAME(offsetof(struct ukevent, user), 32);
SAME(offsetof(struct ukevent, ptr), 32);

/* K-003 */
SAME(offsetof(struct kevent_ring, ring_kidx), 0);
SAME(offsetof(struct kevent_ring, ring_over), 4);
SAME(offsetof(struct kevent_ring, event), 8);
SAME(sizeof(struct kevent_ring), 8);

/* K-004 */
SAME(KEVENT_CTL_ADD, 0);
SAME(KEVENT_CTL_REMOVE, 1);
SAME(KEVENT_CTL_MODIFY, 2);
SAME(KEVENT_CTL_READY, 3);

/* K-005 */
SAME(KEVENT_SOCKET, 0);
SAME(KEVENT_INODE, 1);
SAME(KEVENT_TIMER, 2);
SAME(KEVENT_POLL, 3);
SAME(KEVENT_NAIO, 4);
SAME(KEVENT_AIO, 5);
SAME(KEVENT_PIPE, 6);
SAME(KEVENT_SIGNAL, 7);
SAME(KEVENT_POSIX_TIMER, 8);
SAME(KEVENT_UNOTIFY, 9);

/* K-006 */
SAME(KEVENT_REQ_ONESHOT, 1);
SAME(KEVENT_REQ_WAKEUP_ALL, 2);
SAME(KEVENT_REQ_ET, 4);
SAME(KEVENT_REQ_LAST_CHECK, 8);
SAME(KEVENT_REQ_ALWAYS_QUEUE, 16);
SAME(KEVENT_REQ_READY, 32);

/* K-007 */
SAME(KEVENT_RET_BROKEN, 1);
SAME(KEVENT_RET_DONE, 2);
SAME(KEVENT_RET_COPY_FAILED, 4);
SAME(KEVENT_FLAGS_ABSTIME, 1);
SAME(SIGEV_KEVENT, 8);
SAME(KEVENT_SIGNAL_NOMASK, 1ull << 63);

/* K-008 */
SAME(KEVENT_POLL_POLLIN, POLLIN);
SAME(KEVENT_POLL_POLLPRI, POLLPRI);
SAME(KEVENT_POLL_POLLOUT, POLLOUT);
SAME(KEVENT_POLL_POLLERR, POLLERR);
SAME(KEVENT_POLL_POLLHUP, POLLHUP);
SAME(KEVENT_POLL_POLLNVAL, POLLNVAL);
#ifdef POLLRDNORM
SAME(KEVENT_POLL_POLLRDNORM, POLLRDNORM);
SAME(KEVENT_POLL_POLLRDBAND, POLLRDBAND);
SAME(KEVENT_POLL_POLLWRNORM, POLLWRNORM);
SAME(KEVENT_POLL_POLLWRBAND, POLLWRBAND);
#endif
#ifdef POLLMSG
SAME(KEVENT_POLL_POLLMSG, POLLMSG);
SAME(KEVENT_POLL_POLLREMOVE, POLLREMOVE);
SAME(KEVENT_POLL_POLLRDHUP, POLLRDHUP);
#endif

/* A value that the C++ side compares with its own view of the same header. */
unsigned long kevent_header_in_c(unsigned slot);
unsigned long kevent_header_in_c(unsigned slot) {
    static union {
        struct kevent_ring ring;
        unsigned char bytes[8 + 40 * 8];
    } memory;
    struct kevent_ring* ring = &memory.ring;
    return (unsigned long)((unsigned char*)&ring->event[slot] - memory.bytes);
}
