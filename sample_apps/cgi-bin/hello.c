/* A CGI program in C: nothing is faster to start. cc -O2 -static -o hello hello.c */
#include <stdio.h>
#include <stdlib.h>

static const char *meta_variable(const char *name)
{
    const char *value = getenv(name);
    return value ? value : "";
}

int main(void)
{
    printf("Content-Type: text/plain; charset=utf-8\r\n\r\n");
    printf("Hello from C: %s %s\n", meta_variable("REQUEST_METHOD"), meta_variable("SCRIPT_NAME"));
    return 0;
}
