/* Lets time pass more slowly for a User Mode Linux that it is preloaded into.

   A system call in such a guest takes about 50 microseconds, so its programs look slow to each
   other: answers are late, and all of them together do not get through the pings of 100,000
   sockets. With SLOW_CLOCK=4, a second of the guest is four seconds of the host: its clock and
   its timers are the only things that change. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

#define SECOND 1000000000LL

static long long factor(void) {
    static long long known;
    if (!known) {
        const char *text = getenv("SLOW_CLOCK");
        known = text && atoll(text) > 0 ? atoll(text) : 1;
    }
    return known;
}

static long long nanoseconds(const struct timespec *time) {
    return time->tv_sec * SECOND + time->tv_nsec;
}

static struct timespec as_time(long long nanoseconds) {
    return (struct timespec){nanoseconds / SECOND, nanoseconds % SECOND};
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, now);
    if (!failed && clock == CLOCK_MONOTONIC) *now = as_time(nanoseconds(now) / factor());
    return failed;
}

int timer_settime(timer_t timer, int flags, const struct itimerspec *set, struct itimerspec *old) {
    static int (*real)(timer_t, int, const struct itimerspec *, struct itimerspec *);
    if (!real) real = dlsym(RTLD_NEXT, "timer_settime");
    struct itimerspec slow = {as_time(nanoseconds(&set->it_interval) * factor()),
                              as_time(nanoseconds(&set->it_value) * factor())};
    return real(timer, flags, &slow, old);
}
