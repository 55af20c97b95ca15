#!/usr/bin/perl
# t/unit/json.pl EXPRESSION...: reads a status page in JSON, strictly; prints what each perl expression comes to, a
# line each, the elements of a list with commas between. In them $j is the page, $pool{NAME} one of its pools, J(x)
# writes JSON with its names in order.
use strict;
use warnings;
use JSON::PP;

my $j = do {
	local $/;
	JSON::PP->new->utf8->decode(scalar <STDIN>);
};
my %pool = map { $_->{name} => $_ } @{$j->{pools}};

sub J { JSON::PP->new->canonical->ascii->allow_nonref->encode($_[0]) }

for my $expression (@ARGV) {
	my @v = eval $expression;
	print $@ ? "error: $@\n" : join(',', map { ref $_ || !defined $_ ? J($_) : $_ } @v) . "\n";
}
