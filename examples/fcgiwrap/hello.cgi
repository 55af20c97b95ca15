#!/bin/sh
# hello.cgi: says who runs it. To /home/alice/cgi-bin, mode 0755.
printf 'Content-Type: text/plain\r\n\r\n'
echo "$(id -un) in $PWD"
echo "$REQUEST_METHOD $SCRIPT_NAME path '$PATH_INFO' query '$QUERY_STRING'"
if [ "$REQUEST_METHOD" = POST ]; then
	cat
fi
