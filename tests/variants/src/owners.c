/* Two copies of gorun in one process: a mutex that a goroutine of one copy owns is not a goroutine's of the other copy. Takes the
   paths of two copies of the library. */

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>

typedef void (*function)(void *);
typedef void (*runner)(function, void *);

static runner run[2];
static pthread_mutex_t mutex;

static void try(void *code) { *(int *)code = pthread_mutex_trylock(&mutex); }

static void *other(void *code) {
    run[1](try, code);
    return NULL;
}

static void hold(void *code) {
    pthread_t thread;
    if (pthread_mutex_lock(&mutex) || pthread_create(&thread, NULL, other, code)) return;
    pthread_join(thread, NULL);
    pthread_mutex_unlock(&mutex);
}

int main(int count, char **paths) {
    int code = -1, i;
    pthread_mutexattr_t recursive;
    pthread_mutexattr_init(&recursive);
    pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&mutex, &recursive);
    for (i = 0; i < 2 && i + 1 < count; i++) {
        void *library = dlopen(paths[i + 1], RTLD_NOW);
        if (!library || !(run[i] = (runner)dlsym(library, "gorun_variant_call"))) {
            fprintf(stderr, "%s\n", dlerror());
            return 1;
        }
    }
    run[0](hold, &code);
    puts(code == EBUSY ? "busy" : code == 0 ? "granted" : "not tried");
    return 0;
}
