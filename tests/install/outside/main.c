/* main.c: a C program of somebody else; C11, and nothing but the C header. */
#include <kevring/kevent/kevent.h>

#include <stdio.h>

int main(void) { return printf("%zu\n", sizeof(struct ukevent)) < 0; }
