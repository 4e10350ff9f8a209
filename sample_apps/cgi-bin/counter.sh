#!/bin/sh
# A response that takes its time: each line is on its way as soon as it is written, so a browser
# shows it at once, if no server in between waits for the end. sh writes each echo unbuffered.
echo "Content-Type: text/plain; charset=utf-8"
echo "Cache-Control: no-store"
echo
count=1
while [ $count -le 10 ]; do
    echo "line $count of 10 from script $$"
    [ $count -eq 10 ] || sleep 0.3
    count=$((count + 1))
done
