#!/usr/bin/perl
# The language that CGI grew up with. The module CGI would parse forms; a greeting needs none.
use strict;
use warnings;

print "Content-Type: text/plain; charset=utf-8\r\n\r\n";
print "Hello from Perl $^V: $ENV{REQUEST_METHOD} $ENV{SCRIPT_NAME}\n";
