/* main.c: a C program of a user; C11, and only the C header. Waits for a timer, and
 * prints how many events came. */
#include <kevring/kevent/kevent.h>

#include <stdio.h>
#include <time.h>
#include <unistd.h>

int main(void) {
    const struct timespec forever = {.tv_sec = -1};
    struct ukevent timer = {.type = KEVENT_TIMER, .event = KEVENT_TIMER_FIRED};
    int queue = kevent_init(NULL, 0, 0);
    int count;

    timer.id.raw[1] = 1000000; /* a millisecond */
    if (queue < 0 || kevent_ctl(queue, KEVENT_CTL_ADD, 1, &timer) < 0) return 1;
    count = kevent_get_events(queue, 1, 1, forever, &timer, 0);
    close(queue);
    return printf("%d\n", count) < 0;
}
