// init.c: the first process of the machine that tests/kernels/run starts.
//
// Reads /plan, one instruction per line with fields between tabs: loads modules, mounts the disk, and runs the
// programs one after the other with a deadline each. Their output and their ends go to the second
// serial port, where the host reads them. Then it switches the machine off.
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum { field_count_max = 64, ordinary_user = 1000 };

static FILE* report;

// A permanent failure ends the machine; the host sees that the last line is missing.
static _Noreturn void give_up(const char* call) {
    fprintf(report ? report : stderr, "BROKEN\t%s: %s\n", call, strerror(errno));
    fflush(NULL);
    sync();
    reboot(RB_POWER_OFF);
    _exit(1);
}

static void mount_or_give_up(const char* source, const char* target, const char* type,
                             unsigned long flags, const char* options) {
    mkdir(target, 0755);
    if (mount(source, target, type, flags, options) != 0) give_up(target);
}

static void load_module(const char* path) {
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) give_up(path);
    if (syscall(SYS_finit_module, file, "", 0) != 0 && errno != EEXIST) give_up(path);
    close(file);
}

// The loopback interface is the only one that the machine has.
static void bring_loopback_up(void) {
    const int any = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq request = {.ifr_name = "lo"};
    if (ioctl(any, SIOCGIFFLAGS, &request) != 0) give_up("SIOCGIFFLAGS");
    request.ifr_flags |= IFF_UP | IFF_RUNNING;
    if (ioctl(any, SIOCSIFFLAGS, &request) != 0) give_up("SIOCSIFFLAGS");
    close(any);
}

// The disk appears a moment after its driver was loaded.
static void mount_disk(const char* type) {
    struct stat status;
    for (int i = 0; i < 600 && stat("/dev/vda", &status) != 0; ++i) usleep(100 * 1000);
    mount_or_give_up("/dev/vda", "/tmp", type, MS_NOATIME, "");
    chmod("/tmp", 01777);
}

static void set_limit(int resource, rlim_t soft, rlim_t hard) {
    const struct rlimit limit = {.rlim_cur = soft, .rlim_max = hard};
    if (setrlimit(resource, &limit) != 0) give_up("setrlimit");
}

// In the child: the limits that a session has on Debian, and the user's identity.
static void become(const char* user) {
    set_limit(RLIMIT_NOFILE, 1024, 524288);
    set_limit(RLIMIT_CORE, 0, 0);
    set_limit(RLIMIT_MEMLOCK, 8 << 20, 8 << 20);
    if (strcmp(user, "root") == 0) return;
    if (setgroups(0, NULL) != 0 || setresgid(ordinary_user, ordinary_user, ordinary_user) != 0 ||
        setresuid(ordinary_user, ordinary_user, ordinary_user) != 0)
        give_up("setresuid");
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

// RUN name user seconds folder count-of-variables variable... argument...
static void run_program(char** fields, int field_count) {
    if (field_count < 7) {
        errno = EINVAL;
        give_up("/plan");
    }
    const double seconds = atof(fields[3]);
    const int variable_count = atoi(fields[5]);
    char** const arguments = fields + 6 + variable_count;
    fprintf(report, "BEGIN\t%s\t%s\n", fields[1], fields[2]);
    fflush(report);
    const double begin = now();
    const pid_t child = fork();
    if (child < 0) give_up("fork");
    if (child == 0) {
        setsid();
        become(fields[2]);
        if (chdir(fields[4]) != 0) give_up(fields[4]);
        for (int i = 0; i < variable_count; ++i) putenv(fields[6 + i]);
        dup2(fileno(report), STDOUT_FILENO);
        dup2(fileno(report), STDERR_FILENO);
        execv(arguments[0], arguments);
        fprintf(stderr, "%s: %s\n", arguments[0], strerror(errno));
        _exit(127);
    }
    int status = 0;
    int timed_out = 0;
    for (;;) {
        int other = 0;
        const pid_t ended = waitpid(-1, &other, WNOHANG);
        if (ended == child) {
            status = other;
            break;
        }
        if (ended > 0) continue;  // an orphan, which belongs to this process
        if (!timed_out && now() - begin > seconds) {
            timed_out = 1;
            kill(-child, SIGKILL);
        }
        usleep(20 * 1000);
    }
    kill(-child, SIGKILL);  // a process that a test has left
    while (waitpid(-1, NULL, WNOHANG) > 0) {}
    const char* word = timed_out ? "TIME" : WIFEXITED(status) ? "EXIT" : "SIGNAL";
    fprintf(report, "\nEND\t%s\t%s\t%s\t%d\t%.1f\n", fields[1], fields[2], word,
            WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status), now() - begin);
    fflush(report);
}

static int split(char* line, char** fields) {
    int count = 0;
    line[strcspn(line, "\n")] = '\0';
    for (char* rest = line; rest != NULL && count < field_count_max - 1;)
        fields[count++] = strsep(&rest, "\t");
    fields[count] = NULL;
    return count;
}

// One byte written is one byte read: no translation of line ends.
static void open_report(void) {
    const int port = open("/dev/ttyS1", O_RDWR | O_NOCTTY | O_CLOEXEC);
    struct termios settings;
    if (port < 0 || tcgetattr(port, &settings) != 0) give_up("/dev/ttyS1");
    cfmakeraw(&settings);
    tcsetattr(port, TCSANOW, &settings);
    report = fdopen(port, "w");
    if (report == NULL) give_up("fdopen");
}

int main(void) {
    // The initial file system may have /dev/console only.
    mkdir("/dev", 0755);
    mount("dev", "/dev", "devtmpfs", 0, "");
    open_report();
    mount_or_give_up("proc", "/proc", "proc", 0, "");
    mount_or_give_up("sys", "/sys", "sysfs", 0, "");
    mount_or_give_up("pts", "/dev/pts", "devpts", 0, "ptmxmode=0666,mode=0620");
    mount_or_give_up("shm", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777");
    mount_or_give_up("run", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755");
    symlink("/proc/self/fd", "/dev/fd");
    bring_loopback_up();
    setenv("PATH", "/usr/bin:/bin", 1);
    setenv("HOME", "/tmp", 1);
    setenv("TMPDIR", "/tmp", 1);
    setenv("LANG", "C.UTF-8", 1);
    sethostname("kernel-test", 11);

    struct utsname name;
    uname(&name);
    fprintf(report, "KERNEL\t%s\t%s\n", name.release, name.version);

    FILE* const plan = fopen("/plan", "re");
    if (plan == NULL) give_up("/plan");
    char* line = NULL;
    size_t capacity = 0;
    while (getline(&line, &capacity, plan) > 0) {
        char* fields[field_count_max];
        const int count = split(line, fields);
        if (strcmp(fields[0], "MODULE") == 0) {
            load_module(fields[1]);
        } else if (strcmp(fields[0], "DISK") == 0) {
            mount_disk(fields[1]);
        } else if (strcmp(fields[0], "RUN") == 0) {
            run_program(fields, count);
        }
    }
    fprintf(report, "DONE\n");
    fflush(report);
    tcdrain(fileno(report));
    sync();
    reboot(RB_POWER_OFF);
    return 1;
}
