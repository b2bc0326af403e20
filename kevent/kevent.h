/* kevent.h: the C interface of the kevent queue.
 *
 * One queue for every kind of event. A program describes an interest in a 40-byte record (struct
 * ukevent), hands records to kevent_ctl(), and collects records of the same shape with
 * kevent_get_events(), or through a ring in its own memory with kevent_wait() and kevent_commit().
 * Names, values and layout are those of the Linux kevent patches of 2006.
 *
 * Results      Every call returns a negative error number (-EINVAL, ...) on failure and leaves
 *              errno alone. -EBADF: the control descriptor is not open. -EINVAL: it is open, but
 *              no queue.
 * Thread       Any thread may make any call on any queue at any time, unless the queue was made
 *              with KEVENT_INIT_ONE_THREAD. A queue belongs to one process: after fork() the child
 *              cannot use it.
 * Cancellation A thread may be cancelled (pthread_cancel) while it waits in kevent_get_events() or
 *              kevent_wait(). No event is lost by it: what was not handed over stays ready.
 */
#ifndef KEVRING_KEVENT_KEVENT_H
#define KEVRING_KEVENT_KEVENT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

#ifdef __cplusplus
extern "C" {
#endif

struct itimerspec; /* which plain C11 leaves out of <time.h> */

/* Commands of kevent_ctl(). */
#define KEVENT_CTL_ADD 0    /* register; the array is also the reply */
#define KEVENT_CTL_REMOVE 1 /* drop registrations */
#define KEVENT_CTL_MODIFY 2 /* replace the event mask and the request flags, and test again */
#define KEVENT_CTL_READY 3  /* mark ready; with no records, make one waiting call return */

/* Types of events: ukevent.type. */
#define KEVENT_SOCKET 0      /* id.raw[0]: a socket */
#define KEVENT_INODE 1       /* id.raw[0]: a descriptor of a directory or file */
#define KEVENT_TIMER 2       /* id.raw[0], id.raw[1]: the period in seconds and nanoseconds */
#define KEVENT_POLL 3        /* id.raw[0]: any descriptor that poll() can wait for */
#define KEVENT_NAIO 4        /* a whole receive or send; made by aio_recv() and aio_send() */
#define KEVENT_AIO 5         /* file to socket; made by aio_sendfile() and its kin */
#define KEVENT_PIPE 6        /* id.raw[0]: one end of a pipe or FIFO */
#define KEVENT_SIGNAL 7      /* id.raw_u64: a signal number, with KEVENT_SIGNAL_NOMASK or without */
#define KEVENT_POSIX_TIMER 8 /* made by a call of its own */
#define KEVENT_UNOTIFY 9     /* id: the program's own; fired by KEVENT_CTL_READY */
#define KEVENT_PROCESS 10    /* id.raw[0]: a process; not of 2006 */
#define KEVENT_MAX 11        /* one past the last type */

/* Bits of ukevent.event, by type. */
#define KEVENT_TIMER_FIRED 0x1u       /* TIMER */
#define KEVENT_SOCKET_RECV 0x1u       /* SOCKET, PIPE, NAIO */
#define KEVENT_SOCKET_ACCEPT 0x2u     /* SOCKET */
#define KEVENT_SOCKET_SEND 0x4u       /* SOCKET, PIPE, NAIO */
#define KEVENT_INODE_CREATE 0x1u      /* INODE: a name was made in the directory */
#define KEVENT_INODE_REMOVE 0x2u      /* INODE: a name was removed from the directory */
#define KEVENT_INODE_MODIFIED 0x8u    /* INODE: bytes of a file changed; not of 2006 */
#define KEVENT_INODE_ATTRIBUTES 0x10u /* INODE: attributes of a file changed; not of 2006 */
#define KEVENT_INODE_MOVED_FROM 0x20u /* INODE: a name left the directory; not of 2006 */
#define KEVENT_INODE_MOVED_TO 0x40u   /* INODE: a name came by a rename; not of 2006 */
#define KEVENT_INODE_LOST 0x200u      /* of a kevent_change only: changes were lost */
#define KEVENT_INODE_DIRECTORY 0x400u /* of a kevent_change only: the name is a directory's */
#define KEVENT_INODE_NAMES 0x800u     /* INODE: keep names for kevent_inode_changes() */
#define KEVENT_POLL_POLLIN 0x0001u    /* POLL: the bits of poll(2) on x86 */
#define KEVENT_POLL_POLLPRI 0x0002u
#define KEVENT_POLL_POLLOUT 0x0004u
#define KEVENT_POLL_POLLERR 0x0008u /* POLL: this and the next two are not implied */
#define KEVENT_POLL_POLLHUP 0x0010u
#define KEVENT_POLL_POLLNVAL 0x0020u
#define KEVENT_POLL_POLLRDNORM 0x0040u
#define KEVENT_POLL_POLLRDBAND 0x0080u
#define KEVENT_POLL_POLLWRNORM 0x0100u
#define KEVENT_POLL_POLLWRBAND 0x0200u
#define KEVENT_POLL_POLLMSG 0x0400u
#define KEVENT_POLL_POLLREMOVE 0x1000u
#define KEVENT_POLL_POLLRDHUP 0x2000u
#define KEVENT_AIO_BIO 0x1u         /* AIO, before 2007; unused */
#define KEVENT_SIGNAL_DELIVERY 0x1u /* SIGNAL */
#define KEVENT_PROCESS_EXIT 0x1u    /* PROCESS */
#define KEVENT_MASK_ALL 0xffffffffu
#define KEVENT_MASK_EMPTY 0x0u /* no activity reaches it; KEVENT_CTL_READY still does */

/* Or-ed into id.raw_u64 of a SIGNAL record: deliver through the queue only. */
#define KEVENT_SIGNAL_NOMASK 0x8000000000000000ull

/* The value of 2006 for sigev_notify in timer_create(). No kernel knows it. */
#define SIGEV_KEVENT 8

/* Request flags: ukevent.req_flags. */
#define KEVENT_REQ_ONESHOT 0x01u      /* delivered once at most, then gone */
#define KEVENT_REQ_WAKEUP_ALL 0x02u   /* told although an older one of its origin is */
#define KEVENT_REQ_ET 0x04u           /* the results are cleared when the record is collected */
#define KEVENT_REQ_LAST_CHECK 0x08u   /* test again when collected; drop if no longer ready */
#define KEVENT_REQ_ALWAYS_QUEUE 0x10u /* if ready when added, queue it instead of answering */
#define KEVENT_REQ_READY 0x20u        /* ready when added, whatever the origin says */

/* Return flags: ukevent.ret_flags. */
#define KEVENT_RET_BROKEN 0x1u      /* failed, not found, or its origin is gone */
#define KEVENT_RET_DONE 0x2u        /* processed: ready, or, with BROKEN, finished by a failure */
#define KEVENT_RET_COPY_FAILED 0x4u /* delivered, but the ring had no room for its copy */

/* Flags of kevent_get_events() and kevent_wait(). */
#define KEVENT_FLAGS_ABSTIME 0x1u /* the timeout is a point of CLOCK_REALTIME */

/* Flags of kevent_init(); not of 2006. */
#define KEVENT_INIT_NO_THREAD 0x100u  /* no thread looks for the end of this queue */
#define KEVENT_INIT_ONE_THREAD 0x200u /* one thread collects, by an io_uring of its own */
#define KEVENT_INIT_ASYNC 0x400u /* a thread of the library fills the ring as events complete */

/* The fewest slots that a ring can have. */
#define KEVENT_RING_SIZE_MIN 2u

/* What is watched. Together with the type it names a registration: all 64 bits count, so raw[1]
 * must be set on purpose (0, as a rule) where a type uses raw[0] only. */
struct kevent_id {
    union {
        uint32_t raw[2];
        uint64_t raw_u64 __attribute__((aligned(8)));
    };
};

/* A request, a reply and an event: 40 bytes, without padding. */
struct ukevent {
    struct kevent_id id;  /* what is watched; the key, with type */
    uint32_t type;        /* KEVENT_SOCKET ... */
    uint32_t event;       /* which activity: bits by type */
    uint32_t req_flags;   /* KEVENT_REQ_... */
    uint32_t ret_flags;   /* KEVENT_RET_...; set by the queue, ignored in a request */
    uint32_t ret_data[2]; /* by type, see below; with BROKEN, [1] is a negative error number */
    union {
        uint32_t user[2]; /* the program's own: never looked at, returned as given at ADD */
        void* ptr;
        uint64_t user_u64 __attribute__((aligned(8)));
    };
};

/* What ret_data of an event says. Where 2006 had nothing, it is of ours.
 *
 *              [0]                                  [1]
 * SOCKET       which bits of the event mask hold    of ACCEPT on a TCP socket: connections waiting
 * PIPE         which bits of the event mask hold    0
 * POLL         which bits of the event mask hold    0
 * INODE        which bits of the event mask came    0
 * TIMER        time of the last expiry, in ms       expiries since the last record
 * POSIX_TIMER  expiries since the last record       0
 * SIGNAL       the sending process                  the value that sigqueue() sent
 * UNOTIFY      0                                    READY commands since the last record
 * PROCESS      exit code, or the signal             CLD_EXITED, CLD_KILLED, ...; 0: not a child
 * AIO          bytes sent, low half                 bytes sent, high half
 * NAIO         bytes moved                          bytes moved */

/* A ring in the program's memory: 8 + 40 * ring_size bytes, aligned to 8.
 *
 * The program reads the slots from its own position up to ring_kidx, which it loads with acquire
 * (__atomic_load_n(&ring->ring_kidx, __ATOMIC_ACQUIRE)), and hands them back with kevent_commit().
 * The program writes none of it. */
#ifdef __cplusplus /* C++ has no flexible array members, but both compilers do. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#endif
struct kevent_ring {
    uint32_t ring_kidx; /* the slot that the queue fills next */
    uint32_t ring_over; /* which lap the first slot that is not committed is on, modulo 2^32 */
    struct ukevent event[];
};
#ifdef __cplusplus
#pragma GCC diagnostic pop
#endif

/* Makes a queue and returns its control descriptor, which is blocking and close-on-exec, and
 * which poll(), epoll, another queue, O_NONBLOCK by fcntl() and close() work on.
 *
 * ring        Null, with ring_size 0: no ring. Else memory for ring_size slots, which stays valid
 *             as long as the queue lives; see kevent_close(). Both words of its header are set to 0.
 * ring_size   In slots; at least KEVENT_RING_SIZE_MIN.
 * flags       0, or KEVENT_INIT_NO_THREAD and one of the others.
 *             KEVENT_INIT_NO_THREAD: a closed queue is found by a thread that looks for such
 *             ones, and with a second thread each system call on a descriptor costs a program more.
 *             Without it the next call on that number finds it, the next kevent_init(), or soon a
 *             call that controls another queue: until then what the queue kept open stays open,
 *             and an epoll set of the program goes on reporting the closed descriptor.
 *             KEVENT_INIT_ONE_THREAD: descriptors are watched by an io_uring that belongs to the
 *             first thread that makes a call on the queue, kevent_commit(), KEVENT_CTL_READY and
 *             kevent_describe() aside. Those three work on any thread; another call of a second
 *             thread gives -EBUSY. If the owner ends, the next thread that makes a call is the
 *             owner; what is ready then is reported, maybe once more.
 *
 * With KEVENT_INIT_ASYNC the queue needs a ring. A thread of the library waits for all events on an
 * io_uring of its own, and places a record in the ring as soon as its event completes: consumers
 * read the ring, and make no call while it has records. The thread blocks all signals, and ends
 * with the queue.
 *
 *             Publication is collection: a record in the ring is delivered, and REMOVE leaves it
 *             there. Last checks are made when a record is published.
 *             At most ring_size - 1 slots are filled: ring_kidx is a consumer's own position where
 *             the ring is empty, and nowhere else.
 *             A registration has at most one record in the ring that is not committed. If it is
 *             ready again before, the next record follows the commit.
 *             Consumers copy what they need of a record and commit it before they wait.
 *             kevent_wait() does not wait while the ring has records that are not committed, or
 *             old_uidx is stale, and returns how many such records there are, at most `num`. Each
 *             record wakes one waiting thread; a commit wakes none.
 *             kevent_get_events() takes the oldest records that are not committed, commits them,
 *             and waits for min_nr of them, or for a full ring.
 *             The control descriptor is readable while there are such records and no thread waits.
 *
 * Errors      -EINVAL: one of ring and ring_size is zero and the other is not, ring_size is 1,
 *             KEVENT_INIT_ASYNC without a ring or with KEVENT_INIT_ONE_THREAD, or flags has other
 *             bits. -EMFILE, -ENFILE, -ENOMEM. -EPERM: in a child that shares the memory of its
 *             parent (vfork(2)). With KEVENT_INIT_ONE_THREAD and KEVENT_INIT_ASYNC, if the system
 *             refuses io_uring: -EPERM (kernel.io_uring_disabled, seccomp), -ENOSYS, or -EINVAL
 *             (Linux older than 6.1). With KEVENT_INIT_ASYNC also -EAGAIN: no thread. */
int kevent_init(struct kevent_ring* ring, unsigned ring_size, unsigned flags);

/* Writes lines of text about the queue into `buffer`, for a log: by what port it reaches the
 * kernel (`port: ring`), why (`reason: KEVENT_INIT_ONE_THREAD`), and how many registrations and
 * hidden descriptors it has. Writes at most `size` bytes, with a 0 at the end; `buffer` may be null
 * with size 0. Returns the length of the whole text, without the 0.
 *
 * Errors      -EFAULT: `buffer` is null and `size` is not 0. -ENOMEM. */
int kevent_describe(int fd, char* buffer, size_t size);

/* Closes a control descriptor, and releases what its queue keeps open, at once unless a thread is
 * in a call on that queue. A thread that waits on the queue returns -EBADF. Afterwards no thread
 * uses the memory of the ring. close() does the same, but the library notices it later; until then
 * the driver of KEVENT_INIT_ASYNC may write to the ring, and so may a thread that waits. So a
 * program calls kevent_close() before it frees the memory of a ring. In the child of a fork it is
 * an error, and close() is right.
 *
 * Returns 0. Errors: only those of every call. Not of 2006. */
int kevent_close(int fd);

/* Applies `cmd` to `num` records. `arg` is read, and is also the reply.
 *
 * ADD         Registers each. Records that are ready at once (DONE) or that fail (BROKEN and DONE,
 *             ret_data[1] the negative error number) are not registered; they are packed to the
 *             front of `arg`, in order, and their number is returned. 0: all are registered.
 * REMOVE      Drops each; an event of it that was not collected is dropped too. Every record is
 *             answered in its own place: DONE, and BROKEN if there was no such registration.
 *             Returns 0.
 * MODIFY      Replaces event and req_flags of each, and tests again; answered as REMOVE.
 * READY       Marks each ready, and returns how many were found; the others are packed to the
 *             front of `arg` with BROKEN and DONE. With num 0, the current or else the next
 *             waiting call returns without waiting; returns 0.
 *
 * Errors      -EINVAL: no such command, or REMOVE, MODIFY or READY of more records than there are
 *             registrations (nothing is done then). -EFAULT: `arg` is null and `num` is not 0. */
int kevent_ctl(int fd, unsigned cmd, unsigned num, struct ukevent* arg);

/* Waits until `min_nr` registrations are ready, and moves up to `max_nr` records into `buf`, in the
 * order in which they became ready. Returns how many.
 *
 * It returns earlier, with fewer or none, when the timeout passes, when a signal handler has run,
 * or after KEVENT_CTL_READY with no records; and it does not wait at all if min_nr is 0 or the
 * descriptor is non-blocking. A queue with a ring gets a copy of every record into it as well; a
 * record whose copy found no room has COPY_FAILED set. Such a program has to commit, too.
 *
 * timeout     How long to wait; tv_sec -1: for ever. With KEVENT_FLAGS_ABSTIME: until when.
 *
 * Errors      -EINVAL: no valid timeout on a blocking descriptor, or unknown flags.
 *             -EFAULT: `buf` is null and max_nr is not 0. */
int kevent_get_events(int fd, unsigned min_nr, unsigned max_nr, struct timespec timeout,
                      struct ukevent* buf, unsigned flags);

/* Waits until something is ready and the ring has room, and moves up to `num` records into the
 * ring. Returns how many. What does not fit stays ready, in order.
 *
 * old_uidx    The slot up to which the caller believes all to be committed. If others have
 *             committed since, the call does not wait, so that the caller looks at the ring again.
 * timeout, flags   As in kevent_get_events().
 *
 * Errors      -EINVAL: the queue has no ring, `num` is more than its slots, no valid timeout on a
 *             blocking descriptor, or unknown flags. */
int kevent_wait(int fd, unsigned num, unsigned old_uidx, struct timespec timeout, unsigned flags);

/* Hands back every slot of the ring before `new_uidx` of lap `over`, and returns how many that
 * freed.
 *
 * A position, not a set: it frees the slots that other threads have read or are reading, too, so
 * a record is copied out before anyone commits past it. `over` is the lap that new_uidx itself is
 * on: a thread that goes from the last slot to slot 0 adds one to the value it had. Positions that
 * are committed already free nothing and give 0, whatever the order in which threads call.
 *
 * Errors      -EINVAL: new_uidx is not a slot, or lies beyond what was published. -EOVERFLOW:
 *             `over` is more than one lap away from ring_over. Without a ring it returns 0. */
int kevent_commit(int fd, unsigned new_uidx, unsigned over);

/* Makes a timer of any clock that timerfd_create(2) knows, and registers it as type POSIX_TIMER.
 * In place of timer_create() with SIGEV_KEVENT, which no kernel knows.
 *
 * when        The first expiry, relative, or absolute with TFD_TIMER_ABSTIME in `flags`; and the
 *             interval. Without an interval there is one event, and then the timer is gone. With
 *             one there is an event whenever some expiries have passed, until REMOVE; ret_data[0]
 *             says how many.
 * user        Comes back in the event's `ptr`.
 *
 * Returns a positive number, which is id.raw_u64 of the event and of the record for REMOVE.
 * Errors: those of timerfd_create(2) and timerfd_settime(2), and -EINVAL if it would never expire.
 */
long kevent_timer_create(int fd, clockid_t clock, const struct itimerspec* when, int flags,
                         void* user);

/* One thing that happened in a directory. */
struct kevent_change {
    uint32_t event;  /* one of KEVENT_INODE_CREATE ... MOVED_TO, maybe with DIRECTORY; or LOST */
    uint32_t cookie; /* the same in the MOVED_FROM and the MOVED_TO of one rename; else 0 */
    char name[256];  /* in the directory; ends with a 0 */
};

/* Takes up to `max_nr` changes, oldest first, of a registration of type INODE whose event mask has
 * KEVENT_INODE_NAMES, and returns how many. An event says that there is something to take; it may
 * say so of changes that were taken with those before it, and then the answer is 0.
 *
 * A registration keeps the first 1024 that nobody has taken: of those that come when it is full,
 * and of those that the kernel had no room for, one change with LOST remains, with no name.
 * Changes go with their registration, so one with KEVENT_REQ_ONESHOT has none left once its event
 * is collected.
 *
 * Errors      -ENOENT: `id` is no such registration. -EINVAL: it keeps no names. -EFAULT: `buf` is
 *             null and max_nr is not 0. */
int kevent_inode_changes(int fd, struct kevent_id id, unsigned max_nr, struct kevent_change* buf);

/* Starts to receive exactly `size` bytes, 1 to INT32_MAX, from a stream socket; completes as one
 * event of type NAIO, when all of them are there. Bytes are moved as the socket becomes ready, in
 * the calls of whoever collects from the queue and in this one; blocking sockets are not waited
 * for. The socket's descriptor may be closed right after the call; `buffer` stays valid until the
 * event has been collected or its record removed, and is not touched from then on. Receives that
 * one queue has for one socket fill their buffers one after another, in the order of the calls.
 *
 * flags       MSG_WAITALL, MSG_DONTWAIT and MSG_NOSIGNAL, which it has without being told, or 0.
 *
 * Returns a positive number, which is id.raw_u64 of the event and of the record for REMOVE; raw[0]
 * is `sock_fd`. The event has `buffer` in its `ptr`, and `size` in both words of ret_data. If it
 * fails, it is BROKEN and DONE, ret_data[0] the bytes moved before and ret_data[1] the negative
 * error number; -EPIPE: the peer sends no more. KEVENT_CTL_READY ends it with what was moved.
 * Errors: -EBADF, -ENOTSOCK; -ESOCKTNOSUPPORT: no stream of bytes; -EINVAL: another size or other
 * flags; -EFAULT: `buffer` is null. */
long aio_recv(int kevent_fd, int sock_fd, void* buffer, size_t size, int flags);

/* The same for sending all of `size` bytes. No SIGPIPE is raised.
 *
 * flags       MSG_MORE, MSG_DONTWAIT, MSG_NOSIGNAL. */
long aio_send(int kevent_fd, int sock_fd, const void* buffer, size_t size, int flags);

/* Starts to send `count` bytes of `in_fd`, from `offset`, to a socket; completes as an event of
 * type AIO. Both descriptors may be closed right after the call. Transfers on one socket keep
 * their order.
 *
 * Returns a cookie: a positive number, unique within the queue. The event has it in `ptr` and in
 * id.raw_u64; ret_data[0] and ret_data[1] are the low and the high half of the number of bytes
 * sent, which is less than `count` if the file ends before. If sending fails, the event is BROKEN
 * and DONE, ret_data[0] the low half of the bytes sent and ret_data[1] the negative error number.
 * REMOVE of the record stops the transfer, and no event comes. */
long aio_sendfile(int kevent_fd, int sock_fd, int in_fd, off_t offset, size_t count);

/* Opens `filename` read-only, and then does as aio_sendfile() does. Returns the descriptor of the
 * open file, which the caller closes, at any time; errors are those of open(2) as well. */
long aio_sendfile_path(int kevent_fd, int sock_fd, const char* filename, off_t offset,
                       size_t count);

/* As aio_sendfile(), with bytes before and after those of the file: nothing of another transfer on
 * this socket comes between. The call copies them: vectors and memory may be freed after it. The
 * event's byte count includes header and trailer.
 *
 * user        Comes back in the event's `ptr`, in place of the cookie; null: the cookie. */
long aio_sendfilev(int kevent_fd, int sock_fd, const struct iovec* header, unsigned header_count,
                   int in_fd, off_t offset, size_t count, const struct iovec* trailer,
                   unsigned trailer_count, void* user);

#ifdef __cplusplus
}
#endif

#endif
