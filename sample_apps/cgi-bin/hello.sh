#!/bin/sh
# The shortest CGI script: fields, an empty line, content (RFC 3875 6.2.1).
# The server told us everything in meta-variables, which are environment variables here.
echo "Content-Type: text/plain; charset=utf-8"
echo
echo "Hello from sh: $REQUEST_METHOD $SCRIPT_NAME${PATH_INFO:+, and below it $PATH_INFO}"
