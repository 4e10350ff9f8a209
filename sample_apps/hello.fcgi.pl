#!/usr/bin/perl
# A FastCGI worker in Perl. The module FCGI (Debian: libfcgi-perl) accepts on descriptor 0.
# What lies outside the loop is done once, what lies inside once a request: that is FastCGI's point.
use strict;
use warnings;
use FCGI;

my $started = localtime;
my $count = 0;
my %environment;

# The request's meta-variables go to %environment, not to %ENV, which stays the process's own.
my $request = FCGI::Request(\*STDIN, \*STDOUT, \*STDERR, \%environment);

while ($request->Accept() >= 0) {
    $count++;
    print "Content-Type: text/plain; charset=utf-8\r\n\r\n";
    print "Hello from Perl: request $count of process $$, which runs since $started.\n";
    print "$environment{REQUEST_METHOD} $environment{REQUEST_URI}\n";
}
