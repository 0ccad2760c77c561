/* Calls gorun_variant() of the libraries that are named by the arguments, each on a thread of its own and all at once; if LINKED
   is defined, that of the library it is linked with as well. Prints the mode of each. Then it closes the libraries, opens them
   again, and calls what still needs them if gorun has been there. */

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST 8

typedef const char *(*variant)(void);

#ifdef LINKED
const char *gorun_variant(void);
#endif

static void *call(void *function) { return (void *)((variant)function)(); }

static int call_all(int count, char **paths) {
    pthread_t threads[MOST];
    void *libraries[MOST], *mode;
    int n = 0, i;
#ifdef LINKED
    if (pthread_create(&threads[n++], NULL, call, (void *)gorun_variant)) return 1;
#endif
    for (i = 0; i < count && n < MOST; i++) {
        void *function;
        libraries[i] = dlopen(paths[i], RTLD_NOW);
        if (!libraries[i] || !(function = dlsym(libraries[i], "gorun_variant"))) {
            fprintf(stderr, "%s\n", dlerror());
            return 1;
        }
        if (pthread_create(&threads[n++], NULL, call, function)) return 1;
    }
    for (i = 0; i < n; i++) {
        if (pthread_join(threads[i], &mode)) return 1;
        puts(mode);
    }
    for (i = 0; i < count; i++) {
        if (dlclose(libraries[i])) return 1;
    }
    return 0;
}

int main(int count, char **arguments) {
    int round, status;
    pid_t child;
    for (round = 0; round < 2; round++) {
        if (call_all(count - 1, arguments + 1)) return 1;
        /* Handlers of gorun's for the signal that setuid sends, and for forks. */
        if (setuid(getuid())) return 1;
        fflush(stdout);
        child = fork();
        if (child == 0) _exit(0);
        if (waitpid(child, &status, 0) != child || status != 0) return 1;
    }
    return 0;
}
