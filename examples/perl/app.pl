#!/usr/bin/perl
# app.pl: a guest book with pictures, for CGI::Fast. It belongs into the pool's
# directory; what it stores goes to data/ there, which it makes.
use strict;
use warnings;
use CGI::Fast;
use Encode qw(decode encode);
use Fcntl ':flock';
use File::Copy 'copy';

$CGI::POST_MAX = 5_000_000;
my $data = 'data';
my %type = ("\x89PNG" => 'image/png', "\xff\xd8\xff" => 'image/jpeg', 'GIF8' => 'image/gif');

sub type_of {
	open my $f, '<:raw', $_[0] or return;
	read $f, my $head, 4;
	return (map { $type{$_} } grep { index($head, $_) == 0 } keys %type)[0];
}

sub text { return $_[0]->header(-type => 'text/plain', -charset => 'utf-8', -status => $_[1]), encode('UTF-8', "$_[2]\n") }

sub sign {
	my $q = shift;
	# By hand: CGI::Fast forgets "use CGI -utf8" with every request.
	my ($name, $text) = map { decode('UTF-8', scalar $q->param($_) // '') =~ s/\s+/ /gr } 'name', 'text';
	return text($q, 400, 'Your name, and what you want to say, please.') if $name eq '' || $text eq '';
	my $upload = $q->upload('picture');
	my $type = $upload ? type_of($q->tmpFileName($upload)) : '';
	return text($q, 415, 'The picture is no PNG, JPEG or GIF.') unless defined $type;

	mkdir $data;
	open my $book, '+>>', "$data/entries" or die "$data/entries: $!\n";
	flock $book, LOCK_EX or die "$data/entries: $!\n";	# other workers sign too
	seek $book, 0, 0;
	my $n = 1 + (() = <$book>);
	copy($q->tmpFileName($upload), "$data/$n") or die "$data/$n: $!\n" if $upload;
	print $book encode('UTF-8', join("\t", $name, $text, $type) . "\n");
	close $book or die "$data/entries: $!\n";
	print STDERR "entry $n from $ENV{REMOTE_ADDR}\n";
	return $q->redirect(-uri => $ENV{SCRIPT_NAME}, -status => 303,
	    -cookie => $q->cookie(-name => 'name', -value => $name, -path => $ENV{SCRIPT_NAME}, -httponly => 1, -samesite => 'Lax'));
}

sub picture {
	my ($q, $n) = @_;
	open my $f, '<:raw', "$data/$n" or return text($q, 404, 'There is no such picture.');
	local $/;
	return $q->header(-type => type_of("$data/$n"), -charset => '', -X_Content_Type_Options => 'nosniff'), <$f>;
}

sub book {
	my $q = shift;
	my ($n, $name) = (0, $q->escapeHTML(decode('UTF-8', scalar $q->cookie('name') // '')));
	my $page = "<!DOCTYPE html>\n<title>Guest book</title>\n<h1>Guest book</h1>\n";
	if (open my $book, '<:encoding(UTF-8)', "$data/entries") {
		while (<$book>) {
			my ($who, $text, $type) = map { $q->escapeHTML($_) } split /[\t\n]/;
			$n++;
			$page .= "<p><b>$who</b>: $text" . ($type ? " <img src=\"$ENV{SCRIPT_NAME}/$n\">" : '') . "</p>\n";
		}
	}
	$page .= "<form method=post action=\"$ENV{SCRIPT_NAME}\" enctype=\"multipart/form-data\">Name <input name=name value=\"$name\">\n" .
	    "Text <input name=text> Picture <input type=file name=picture> <input type=submit></form>\n";
	return $q->header(-type => 'text/html', -charset => 'utf-8'), encode('UTF-8', $page);
}

sub answer {
	my $q = shift;
	return text($q, $q->cgi_error, $q->cgi_error) if $q->cgi_error;	# too long, or cut off
	return picture($q, $1) if ($ENV{PATH_INFO} // '') =~ m{^/([0-9]+)$};
	return text($q, 404, 'There is no such page.') if ($ENV{PATH_INFO} // '') !~ m{^/?$};
	return $q->request_method eq 'POST' ? sign($q) : book($q);
}

# What dies in a request is to end neither the process nor in half a page.
while (my $q = CGI::Fast->new) {
	my @answer = eval { answer($q) };
	if ($@) {
		print STDERR "$ENV{REQUEST_METHOD} $ENV{REQUEST_URI}: $@";	# to the virtual host's error log
		@answer = text($q, 500, 'That did not work. It is noted, and will be seen to.');
	}
	print @answer;
}
