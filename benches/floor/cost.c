/* Runs a command and says what it cost: CPU time in us, peak memory in kB, page faults. Static and
 * small, since a child's peak counts from what its parent had before exec(2). */
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
    struct rusage cost;
    int status;
    pid_t child;
    if (argc < 2) return 64;
    if ((child = fork()) == 0) {
        if (freopen("/dev/null", "w", stdout) && freopen("/dev/null", "w", stderr)) execv(argv[1], argv + 1);
        _exit(127);
    }
    if (child < 0 || wait4(child, &status, 0, &cost) != child) return 1;
    printf("%ld %ld %ld\n",
           (cost.ru_utime.tv_sec + cost.ru_stime.tv_sec) * 1000000L + cost.ru_utime.tv_usec + cost.ru_stime.tv_usec,
           cost.ru_maxrss, cost.ru_minflt);
    return 0;
}
