#!/usr/bin/perl
# t/unit/openmetrics.pl: is standard input a valid OpenMetrics text? Says on descriptor 2 what is wrong
# with the first line that is not, and exits with 1. With a sample as argument (NAME or NAME{LABEL="VALUE",...})
# it prints that one's value besides, or nothing if there is none.
use strict;
use warnings;

my $want = shift;
my (%families, %samples, $open, $value);
my $line = 0;
my $ended;

sub wrong { print STDERR "line $line: @_\n"; exit 1 }

local $/ = "\n";
binmode STDIN;
while (my $text = <STDIN>) {
	$line++;
	wrong("after # EOF") if $ended;
	$text =~ s/\n\z// or wrong("no end of line");
	utf8::decode(my $chars = $text) or wrong("no UTF-8");
	wrong("control character") if $text =~ /[\x00-\x1f\x7f]/;
	wrong("empty") if $text eq '';
	if ($text eq '# EOF') {
		$ended = 1;
	} elsif ($text =~ /^#/) {
		my ($what, $name, $rest) = $text =~ /^# (TYPE|UNIT|HELP) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.+)\z/ or wrong("no comment that there is: $text");
		if (!defined $open || $open ne $name) {
			wrong("$name is there a second time") if $families{$name};
			$families{$name} = {};
			$open = $name;
		}
		my $f = $families{$name};
		wrong("$what of $name a second time") if exists $f->{$what};
		wrong("$what of $name behind its samples") if $f->{samples};
		wrong("unknown type $rest") if $what eq 'TYPE' && $rest !~ /^(?:gauge|counter|info)\z/;
		wrong("$name does not end in its unit") if $what eq 'UNIT' && $name !~ /_\Q$rest\E\z/;
		wrong("bad escape in HELP") if $what eq 'HELP' && $rest =~ /(?<!\\)(?:\\\\)*\\(?![\\n"])/;
		$f->{$what} = $rest;
	} else {
		my ($name, $labels, $number) = $text =~ /^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{.*\})? (\S+)\z/ or wrong("no sample: $text");
		wrong("a sample without a family: $text") if !defined $open;
		my $f = $families{$open};
		my $suffix = { gauge => '', counter => '_total', info => '_info' }->{$f->{TYPE} // ''} // wrong("$open has no type");
		wrong("$name is no sample of $open") if $name ne $open . $suffix;
		wrong("no number: $number") if $number !~ /^-?\d+(?:\.\d+)?(?:e[-+]?\d+)?\z/;
		wrong("a counter below 0") if $f->{TYPE} eq 'counter' && $number < 0;
		wrong("an info that is not 1") if $f->{TYPE} eq 'info' && $number ne '1';
		$labels //= '{}';
		my ($inside) = $labels =~ /^\{(.*)\}\z/s;
		my %seen;
		while ($inside =~ /\G([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\[\\n"])*)"(,(?=.)|\z)/gc) {
			wrong("label $1 twice") if $seen{$1}++;
		}
		wrong("bad labels: $labels") if (pos($inside) // 0) != length $inside;
		wrong("$name$labels a second time") if $samples{"$name$labels"}++;
		$f->{samples} = 1;
		$value = $number if defined $want && ($text eq "$want $number");
	}
}
wrong("no # EOF") if !$ended;
print "$value\n" if defined $value;
