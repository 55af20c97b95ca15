#!/usr/bin/perl
# t/unit/kept.pl SOCKET: requests on one kept connection, as a web server makes them. One for each line of standard input:
#
#   whole POOL [QUERY [NAME=VALUE...]]      send it, print the answer: what the report says of pid, connection, request
#                                           and stdin, then what came on STDERR, in one line
#   send POOL ...                           the same without the answer: print "sent"
#   begin POOL ..., params POOL ..., body POOL ...      only as far as the midst of this record
#   rest                                    the rest of it, and print the answer
#   answer                                  of send
#
# The body is `hello`; a QUERY of - is none. "closed" is printed where the connection ends.
use strict;
use warnings;
use Socket;

$| = 1;
my $path = shift;
socket my $s, AF_UNIX, SOCK_STREAM, 0 or die;
connect $s, pack_sockaddr_un($path) or die "connect: $!";

sub record { my ($type, $c) = @_; return pack("CCnnCC", 1, $type, 1, length $c, 0, 0) . $c }
sub pair { return pack("NN", map { length($_) | 0x80000000 } @_) . join '', @_ }
sub get {
	my ($n) = @_;
	my $b = '';
	while (length $b < $n) {
		sysread $s, $b, $n - length $b, length $b or return;
	}
	return $b;
}
sub answer {
	my ($out, $err) = ('', '');
	for (;;) {
		my $h = get(8) // return print "closed\n";
		my (undef, $type, undef, $len, $pad) = unpack "CCnnC", $h;
		my $c = $len + $pad ? get($len + $pad) // return print "closed\n" : '';
		$out .= substr $c, 0, $len if $type == 6;
		$err .= substr $c, 0, $len if $type == 7;
		last if $type == 3;
	}
	my @seen = map { $out =~ /^$_ (.*)$/m ? "$_ $1" : () } qw(pid connection request stdin);
	push @seen, $err =~ s/\n/ /gr if $err ne '';
	print "@seen\n";
}

my $rest;
while (<STDIN>) {
	my ($what, $pool, $query, @params) = split;
	$query = '' if ($query // '-') eq '-';
	if ($what eq 'rest') {
		syswrite $s, $rest or die;
	} elsif ($what ne 'answer') {
		my $begin = record(1, pack "nCx5", 1, 1);
		my $params = record(4, pair(ZFPM_POOL => $pool) . pair(CONTENT_LENGTH => 5) . pair(QUERY_STRING => $query) .
		    join '', map { pair(split /=/, $_, 2) } @params);
		my $all = $begin . $params . record(4, '') . record(5, 'hello') . record(5, '');
		my $at = {begin => 8 + 3, params => length($begin) + 8 + 10, body => length($all) - 8 - 3}->{$what} // length $all;
		syswrite $s, substr $all, 0, $at or die;
		$rest = substr $all, $at;
	}
	if ($what =~ /^(whole|rest|answer)$/) {
		answer();
	} else {
		print "sent\n";
	}
}
