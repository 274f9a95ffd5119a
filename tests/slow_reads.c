/* Every read of a file waits 0.2 s first: for the test that says what a device is starved by. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>

#define SLOW(name)                                                      \
    ssize_t name(int file, void *into, size_t count, off_t at) {        \
        static ssize_t (*real)(int, void *, size_t, off_t);             \
        if (!real)                                                      \
            *(void **)&real = dlsym(RTLD_NEXT, #name);                  \
        if (count >= 512)                                               \
            usleep(200000);                                              \
        return real(file, into, count, at);                             \
    }

SLOW(pread)
SLOW(pread64)
