/* An ODBC driver that does nothing: it loads and refuses every connection. With -DCRASH or -DHANG its initialiser does
 * that instead. No header of ODBC is needed: handles are pointers, return codes shorts. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(CRASH)
__attribute__((constructor)) static void initialise(void) { abort(); }
#elif defined(HANG)
__attribute__((constructor)) static void initialise(void) { for (;;) pause(); }
#endif

enum { OK = 0, REFUSED = -1, NO_DATA = 100 };

short SQLAllocHandle(short type, void *parent, void **made) {
    (void)type, (void)parent;
    *made = malloc(1);
    return OK;
}

short SQLFreeHandle(short type, void *handle) {
    (void)type;
    free(handle);
    return OK;
}

short SQLSetEnvAttr(void *environment, int attribute, void *value, int length) {
    (void)environment, (void)attribute, (void)value, (void)length;
    return OK;
}

short SQLDriverConnect(void *connection, void *window, unsigned char *in, short in_length, unsigned char *out,
                       short out_size, short *out_length, unsigned short completion) {
    (void)connection, (void)window, (void)in, (void)in_length, (void)out, (void)out_size, (void)out_length,
        (void)completion;
    return REFUSED;
}

short SQLGetDiagRec(short type, void *handle, short number, unsigned char *state, int *native, unsigned char *text,
                    short size, short *length) {
    static const char words[] = "[planted] no server anywhere";
    (void)type, (void)handle;
    if (number != 1) return NO_DATA;
    memcpy(state, "08001", 6);
    *native = 17;
    if (text && size > (short)sizeof words) memcpy(text, words, sizeof words);
    if (length) *length = (short)(sizeof words - 1);
    return OK;
}
