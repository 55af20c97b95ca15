#!/bin/sh
# Ruby on Rails, an application that "rails new" has made, works through Apache, zfpm and examples/rails under its owner's
# user: pages, forms with CSRF tokens, sessions, uploads, several workers; so it does below /shop, for another tenant.
. "${0%/*}/lib.sh"
. "${0%/*}/httpd.sh"
need_httpd
command -v rails >/dev/null || skip_all "no rails here: apt-get install ruby-rails"
ruby -e 'gem "rails", "~> 6.1.7"; gem "sqlite3"; gem "bundler"' 2>/dev/null || skip_all "no Rails 6.1 with sqlite3 here"

plan 66
patience=60
want_user alice bob web
make_key
: "${alice:?}" "${alice_home:?}" "${bob:?}" "${bob_home:?}"
meet=$tmp/meet
mkdir -m 1777 "$meet"

# A command of the user's own, in the application's directory, as in a shell of this user.
as() {
	as_user=$1 as_home=$2
	shift 2
	(cd "$as_home/shop" 2>/dev/null || cd "$as_home" || exit
	runuser -u "$as_user" -- env -i PATH=/usr/bin:/bin HOME="$as_home" LANG=C.UTF-8 RAILS_ENV=production "$@")
}

# ---- the application, as an administrator makes it --------------------------------------------

as "$alice" "$alice_home" rails new shop --minimal --skip-bundle --skip-git --skip-test --skip-puma --no-rc -q >"$tmp/new.out" 2>&1
app=$alice_home/shop
cp "$top/examples/rails/Gemfile" "$app/Gemfile"
cat >"$app/config/routes.rb" <<-\END
	Rails.application.routes.draw do
	  root 'notes#index'
	  resources :notes, only: %i[index create show]
	  get 'notes/:id/file', to: 'notes#file', as: :file
	  get 'echo/*rest', to: 'probes#echo', format: false
	  %w[who meet boom stream stderr die cut read threads].each { |name| get name, to: "probes##{name}" }
	end
END
cat >"$app/app/controllers/application_controller.rb" <<-\END
	class ApplicationController < ActionController::Base
	  after_action { response.set_header('X-Worker', Process.pid.to_s) }
	end
END
cat >"$app/app/models/note.rb" <<-\END
	class Note < ApplicationRecord
	  validates :title, presence: true
	  def path = Rails.root.join('storage', id.to_s)
	end
END
cat >"$app/app/controllers/notes_controller.rb" <<-\END
	class NotesController < ApplicationController
	  def index
	    session[:visits] = session[:visits].to_i + 1
	    @notes = Note.order(:id)
	  end

	  def create
	    note = Note.new(title: params[:title])
	    return render(plain: "invalid\n", status: 400) unless note.save
	    if params[:file]
	      note.update!(file: params[:file].original_filename)
	      FileUtils.cp(params[:file].path, note.path)
	    end
	    redirect_to note_path(note), notice: "made by #{Process.pid}"
	  end

	  def show
	    @note = Note.find(params[:id])
	  end

	  def file
	    send_file Note.find(params[:id]).path, filename: 'file', type: 'application/octet-stream'
	  end
	end
END
cat >"$app/app/controllers/probes_controller.rb" <<-\END
	class ProbesController < ApplicationController
	  def who
	    render plain: "user #{Etc.getpwuid.name}\npid #{Process.pid}\nenv #{Rails.env}\nscript '#{request.script_name}'\n" \
	                  "notes #{notes_url}\nvar #{ENV.keys.sort.join(' ')}\n"
	  end

	  def echo
	    render plain: "#{params[:rest]}\n"
	  end

	  # So many requests at a time, or it takes long.
	  def meet
	    FileUtils.touch("#{params[:dir]}/#{Process.pid}")
	    3000.times { Dir.children(params[:dir]).size >= params[:n].to_i ? break : sleep(0.02) }
	    render plain: "#{Process.pid} met #{Dir.children(params[:dir]).size}\n"
	  end

	  def boom
	    raise 'boom of the test'
	  end

	  # The second part comes when the client has the first.
	  def stream
	    headers['Last-Modified'] = Time.now.httpdate
	    self.response_body = Enumerator.new do |out|
	      out << "first\n"
	      3000.times { File.exist?(params[:after]) ? break : sleep(0.02) }
	      out << "second\n"
	    end
	  end

	  def stderr
	    warn 'a warning'
	    request.env['rack.errors'].puts "line one\nline two"
	    render plain: "told\n"
	  end

	  def die
	    Process.kill(:KILL, Process.pid)
	    sleep
	  end

	  def cut
	    headers['Last-Modified'] = Time.now.httpdate
	    self.response_body = Enumerator.new do |out|
	      out << "begun\n"
	      raise 'cut of the test'
	    end
	  end

	  def read
	    render plain: File.binread(params[:file]).size.to_s
	  rescue SystemCallError => e
	    render plain: e.message, status: 403
	  end

	  def threads
	    seen = Array.new(3) { |i| Thread.new { 200_000.times { Math.sqrt(i) }; i } }.map(&:value)
	    render plain: "#{seen} #{Timeout.timeout(30) { 'in time' }}\n"
	  end
	end
END
mkdir -p "$app/app/views/notes" "$app/db/migrate" "$app/storage"
cat >"$app/app/views/notes/index.html.erb" <<-\END
	<p>visits: <%= session[:visits] %></p>
	<%= form_with url: notes_path, multipart: true, local: true do |f| %>
	  <%= f.text_field :title %> <%= f.file_field :file %> <%= f.submit 'Save' %>
	<% end %>
	<ul><% @notes.each do |n| %><li><%= link_to n.title, note_path(n) %></li><% end %></ul>
END
cat >"$app/app/views/notes/show.html.erb" <<-\END
	<p>notice: <%= notice %></p>
	<h1><%= @note.title %></h1>
END
cat >"$app/db/migrate/20260101000000_create_notes.rb" <<-\END
	class CreateNotes < ActiveRecord::Migration[6.1]
	  def change
	    create_table(:notes) { |t| t.string :title; t.string :file }
	  end
	end
END
echo '/* of the test */ body { color: green }' >>"$app/app/assets/stylesheets/application.css"
chown -R "$alice:" "$app"
as "$alice" "$alice_home" bundle install --local >"$tmp/bundle.out" 2>&1

# Bob has the same code, and secrets of his own.
cp -a "$app" "$bob_home/shop"
chown -R "$bob:" "$bob_home/shop"
rm "$bob_home/shop/config/master.key" "$bob_home/shop/config/credentials.yml.enc"
as "$bob" "$bob_home" env EDITOR=true bin/rails credentials:edit >"$tmp/credentials.out" 2>&1
for who in alice bob; do
	eval "user=\$$who home=\$${who}_home"
	as "$user" "$home" bin/rails db:migrate assets:precompile >"$tmp/$who.out" 2>&1
	chmod 711 "$home" "$home/shop"
	chmod -R go= "$home"/shop/*
	chmod -R go=rX "$home/shop/public"
done
is "$(stat -c '%a %U' "$app/config/master.key" "$app/db/production.sqlite3" | sort -u | tr '\n' ' ')" "600 $alice " "the key and the database are alice's alone" ||
    diag "$(cat "$tmp"/*.out)"
mkdir "$bob_home/www"
echo 'ordinary' >"$bob_home/www/index.html"
chown -R "$bob:" "$bob_home/www"

# Rack alone; what an application may expect of its server is checked by Rack.
mkdir "$alice_home/plain"
cat >"$alice_home/plain/config.ru" <<-\END
	require 'uri'
	use Rack::Lint
	run(lambda do |env|
	  body = env['rack.input'].read
	  env['rack.input'].rewind
	  again = env['rack.input'].read
	  [200, { 'Content-Type' => 'text/plain', 'Set-Cookie' => "a=1\nb=2" }, ["#{body.bytesize} #{body.sum(32)} #{body == again}\n", "end\n"]]
	end)
END

# What is written in many a dispatch.fcgi.
cat >"$alice_home/dispatch.fcgi" <<-\END
	#!/usr/bin/ruby
	require 'rack'
	require 'rack/handler/fastcgi'
	n = 0
	Rack::Handler::FastCGI.run(->(env) { [200, { 'Content-Type' => 'text/plain' }, ["pid #{$$} request #{n += 1} #{env['rack.input'].read.bytesize}\n"]] })
END
chmod 755 "$alice_home/dispatch.fcgi"
chown "$alice:" "$alice_home/dispatch.fcgi"

cp "$top/examples/rails/fcgi_rack.rb" "$bin/fcgi_rack.rb"
chmod 755 "$bin/fcgi_rack.rb"
{
	example_conf rails/zfpm.conf -e "s|/usr/local/bin/|$bin/|"
	cat <<-END
		app forked {
			command $bin/fcgi_rack.rb
			env RAILS_ENV production
			fork_server on
		}
		app rack { command $bin/fcgi_rack.rb }
		app dispatch {
			command $alice_home/dispatch.fcgi
			env USE_PURE_RUBY_FCGI 1
		}
		pool dispatch {
			user $alice
			app dispatch
			max_workers 1
		}
		pool forked {
			user $alice
			app forked
			directory $alice_home/shop
		}
		pool plain {
			user $alice
			app rack forked
			directory $alice_home/plain
			max_workers 4
		}
	END
} >"$tmp/zfpm.in"
start_zfpm <"$tmp/zfpm.in"
{
	echo 'DirectoryIndex index.html'
	example rails/apache.conf
} >"$tmp/apache.in"
start_httpd <"$tmp/apache.in"
shop=www.example.com

# A page as a browser with cookies would get it: page HOST PATH [OPTION...]
page() {
	page_host=$1 page_path=$2
	shift 2
	curl -sS --max-time 60 --resolve "$page_host:$port:127.0.0.1" -b "$tmp/cookies" -c "$tmp/cookies" "$@" "http://$page_host:$port$page_path"
}
token() { sed -n 's/.*name="authenticity_token" value="\([^"]*\)".*/\1/p' "$1" | head -n 1; }
header() { sed -n "s/^$1: \(.*\)\r\$/\1/ip" "$2" | head -n 1; }
notes() { get $shop /notes | grep -o '<li>' | grep -c .; }

# ---- pages ------------------------------------------------------------------------------------

get $shop /who >"$tmp/who"
is "$(sed -n 's/^user //p;s/^env //p;s/^script //p;s/^notes //p' "$tmp/who" | tr '\n' ' ')" "$alice production '' http://$shop/notes " \
    "the application runs as its owner, in production, at the root of the host"
unlike "$(sed -n 's/^var //p' "$tmp/who")" 'KEY|SECRET|ZFPM' "its environment holds no secret"
is "$(stat -c %a "$tmp/zfpm.conf") $(grep -Ec "$(cat "$app/config/master.key")|SECRET" "$tmp/zfpm.conf")" "644 0" "nor does zfpm.conf, which all may read"
page $shop / -D "$tmp/head" >"$tmp/index"
like "$(cat "$tmp/index")" 'visits: 1' "a page with a layout comes"
css=$(sed -n 's/.*href="\(\/assets\/[^"]*\)".*/\1/p' "$tmp/index")
get $shop "$css" -D "$tmp/head" >"$tmp/css"
is "$(grep -c 'of the test' "$tmp/css") $(grep -ci x-worker "$tmp/head")" "1 0" "the style sheet that it names comes from Apache alone"
get $shop /robots.txt >"$tmp/robots"
passes "so do files of public/" cmp "$tmp/robots" "$app/public/robots.txt"
is "$(code $shop /config/master.key) $(code $shop /robots.txt/../../config/master.key --path-as-is) $(code $shop /assets/../../config/master.key --path-as-is)" \
    "404 400 400" "what is beside public/ can not be had"
is "$(get $shop '/echo/a%20b%2525%C3%A9%2b+/x;y=1/%3f%23?z=1')" 'a b%25é++/x;y=1/?#' "encoded characters in a path reach the application decoded once"
is "$(code $shop /echo/a%2fb)" 404 "but for an encoded slash, which Apache refuses"
is "$(code $shop /nothing) $(cmp "$tmp/code.body" "$app/public/404.html" && echo same)" "404 same" "a path without a route is Rails' own 404"
is "$(code $shop / -I)" 200 "HEAD"

# ---- forms and sessions -----------------------------------------------------------------------

is "$(page $shop /notes -o "$tmp/refused" -w '%{http_code}' --data-urlencode title=none) $(notes)" "422 0" "a form without its token is refused"
is "$(curl -s --max-time 60 -o "$tmp/refused" -w '%{http_code}' -H "Host: $shop" "http://127.0.0.1:$port/notes" -d title=none \
    --data-urlencode "authenticity_token=$(token "$tmp/index")")" 422 "so is one with the token and without the session's cookie"
page $shop /notes >"$tmp/index"
status=$(page $shop /notes -D "$tmp/head" -o "$tmp/made" -w '%{http_code}' --data-urlencode "authenticity_token=$(token "$tmp/index")" \
    --data-urlencode 'title=Notes of the test: äöü € <b>&')
maker=$(header X-Worker "$tmp/head")
is "$status $(header Location "$tmp/head")" "302 http://$shop:$port/notes/1" "with both it is taken, and answered with a redirect"

# The worker that has made the note is busy now, so another one shows it.
mkdir -m 1777 "$meet/flash"
get_exec $shop "/meet?dir=$meet/flash&n=2" >"$tmp/busy" 2>&1 &
busy=$!
passes "its worker is taken by another request" wait_until test -e "$meet/flash/$maker"
page $shop /notes/1 -D "$tmp/head" >"$tmp/note"
like "$(cat "$tmp/note")" 'Notes of the test: äöü € &lt;b&gt;&amp;</h1>' "the note is shown"
like "$(cat "$tmp/note")" "notice: made by $maker<" "with the notice that is in the session"
like "$(header X-Worker "$tmp/head")" "^[0-9]+$" "by a worker"
isnt "$(header X-Worker "$tmp/head")" "$maker" "that is another one"
unlike "$(page $shop /notes/1)" 'made by' "the notice is shown once"
like "$(page $shop /)" 'visits: 3' "and the session goes on"
touch "$meet/flash/go"
wait "$busy"
like "$(cat "$tmp/busy")" "^$maker met" "the first worker was busy all the time"

# ---- uploads ----------------------------------------------------------------------------------

head -c 3000000 /dev/urandom >"$tmp/up"
page $shop /notes >"$tmp/index"
status=$(page $shop /notes -o "$tmp/made" -w '%{http_code} %{redirect_url}' -F "authenticity_token=$(token "$tmp/index")" -F title=upload \
    -F "file=@$tmp/up;filename=up load.bin")
is "$status" "302 http://$shop:$port/notes/2" "a file of 3 MB is uploaded"
is "$(stat -c '%U %a' "$app/storage/2")" "$alice 600" "it is the owner's, and nobody else can read it"
get $shop /notes/2/file >"$tmp/down"
passes "it comes back as it was" cmp "$tmp/up" "$tmp/down"

# Half of an upload
worker=$(get $shop /who | sed -n 's/^pid //p')
perl -MIO::Socket::INET -e '
	my $s = IO::Socket::INET->new(PeerAddr => "127.0.0.1", PeerPort => $ARGV[0]) or die;
	print $s "POST /notes?cut=1 HTTP/1.1\r\nHost: $ARGV[1]\r\nContent-Type: text/plain\r\nContent-Length: 400000\r\n\r\n", "x" x 200000;
	$s->flush;
	shutdown $s, 1;
	alarm 30;
	1 while sysread $s, my $rest, 1000;' "$port" $shop
is "$(notes) $(grep -c 'cut=1' "$app/log/production.log")" "2 0" "an upload that is cut off reaches no controller"
passes "the worker that was reading it is replaced" wait_until gone "$worker"

# ---- workers ----------------------------------------------------------------------------------

mkdir -m 1777 "$meet/many"
at_once 6 meet get_exec $shop "/meet?dir=$meet/many&n=4"
wait_all
is "$(cat "$tmp"/meet.? | grep -c ' met 4')" 6 "of six requests at a time four are served together, and the others after them"
is "$(cut -d ' ' -f 1 "$tmp"/meet.? | sort -u | grep -c .) $(workers "$alice" | grep -c .)" "4 4" "by max_workers processes"
unlike "$(cat "$tmp/error.log")" 'locked' "of which none finds the database locked"

get_exec $shop "/stream?after=$meet/stream" -N >"$tmp/stream" 2>&1 &
stream=$!
passes "a part of a response comes when it is made" wait_until grep -q first "$tmp/stream"
touch "$meet/stream"
wait "$stream"
is "$(cat "$tmp/stream")" "first
second" "and the rest behind it"

# The client leaves in the middle.
worker=$(get $shop /who | sed -n 's/^pid //p')
get_exec $shop "/stream?after=$meet/left" -N >"$tmp/left" 2>&1 &
left=$!
wait_until grep -q first "$tmp/left"
kill "$left"
wait "$left" 2>/dev/null
touch "$meet/left"
idle() { "$zfpm" status -c "$tmp/zfpm.conf" $shop | grep -Eq "^$shop +$1 +idle"; }
passes "a client that leaves costs no worker" wait_until idle "$worker"

# ---- what goes wrong --------------------------------------------------------------------------

worker=$(get $shop /who | sed -n 's/^pid //p')
is "$(code $shop /boom) $(cmp "$tmp/code.body" "$app/public/500.html" && echo same)" "500 same" "an exception is Rails' page of status 500"
like "$(cat "$app/log/production.log")" '^\[.*RuntimeError \(boom of the test\)' "the reason is in Rails' log"
is "$(get $shop /who | sed -n 's/^pid //p')" "$worker" "and the worker goes on"
get $shop /stderr >"$tmp/told"
is "$(grep -E '^stderr: (a warning|line one|line two)$' "$tmp/error.log" | tr '\n' ' ')" "stderr: a warning stderr: line one stderr: line two " \
    "what it writes to its standard error is in Apache's log, a line each"
worker=$(get $shop /who | sed -n 's/^pid //p')
is "$(code $shop /die) $(cmp "$tmp/code.body" "$app/public/500.html" && echo same)" "500 same" "when a worker is killed, Apache shows the same page"
passes "zfpm's log says so" wait_for_log "pool $shop: worker $worker: FCGI process $worker exited on signal 9 .*GET /die"
is "$(code $shop /who)" 200 "the next request is served"
fails "a response that breaks off does not look complete" get $shop /cut -o "$tmp/cut" 2>"$tmp/cut.err"
is "$(cat "$tmp/cut") $(grep -c 'stderr: .*cut of the test (RuntimeError)' "$tmp/error.log")" "begun 1" "and the reason is in Apache's log"

# ---- SIGTERM, and new code --------------------------------------------------------------------

mkdir -m 1777 "$meet/term"
get_exec $shop "/meet?dir=$meet/term&n=2" >"$tmp/term" 2>&1 &
term=$!
wait_until sh -c "ls '$meet/term' | grep -q ."
worker=$(ls "$meet/term")
kill -TERM "$worker"
touch "$meet/term/go"
wait "$term"
is "$(cat "$tmp/term")" "$worker met 2" "a request that is running when SIGTERM comes is finished"
passes "its worker leaves after it" wait_for_log "pool $shop: worker $worker: exited with status 0"

before=$(workers "$alice")
sed -i 's/visits:/number of visits:/' "$app/app/views/notes/index.html.erb"
"$zfpm" retire -c "$tmp/zfpm.conf" $shop >"$tmp/retire" 2>&1
is "$? $(for p in $before; do gone "$p" || echo "$p"; done)" "0 " "zfpm retire: the old workers have gone"
like "$(page $shop /)" 'number of visits: [0-9]' "and new ones serve the new code, in the same session"
is "$(grep -Ec "pool $shop: worker [0-9]*: exited with status [1-9]" "$tmp/zfpm.log")" 0 "the idle ones left with status 0"

# Code that can not be loaded
cp "$app/config/routes.rb" "$tmp/routes.rb"
echo 'end end' >>"$app/config/routes.rb"
"$zfpm" retire -c "$tmp/zfpm.conf" $shop >"$tmp/retire" 2>&1
is "$(code $shop /who) $(cmp "$tmp/code.body" "$app/public/500.html" && echo same)" "500 same" "an application with a syntax error is a 500"
passes "zfpm's log says where" wait_for_log "pool $shop: worker [0-9]+: stderr: .*config/routes.rb:[0-9]+: syntax error"
is "$(code www.example.net /shop/who)" 200 "other tenants notice nothing"
cp "$tmp/routes.rb" "$app/config/routes.rb"
served() { [ "$(code $shop /who)" = 200 ]; }
passes "as soon as it is mended it is served" wait_until served

# ---- below /shop, for another tenant ----------------------------------------------------------

other=www.example.net
get $other /shop/who >"$tmp/who"
is "$(sed -n 's/^user //p;s/^script //p;s/^notes //p' "$tmp/who" | tr '\n' ' ')" "$bob '/shop' http://$other/shop/notes " \
    "another tenant's application below /shop"
page $other /shop >"$tmp/index"
is "$(page $other /shop/notes -o "$tmp/made" -w '%{http_code} %{redirect_url}' -d title=bob --data-urlencode "authenticity_token=$(token "$tmp/index")")" \
    "302 http://$other:$port/shop/notes/1" "redirects to what is below it"
like "$(page $other /shop/notes/1)" 'notice: made by' "has its session"
get $other "$(sed -n 's/.*href="\(\/shop\/assets\/[^"]*\)".*/\1/p' "$tmp/index")" >"$tmp/css"
is "$(grep -c 'of the test' "$tmp/css") $(get $other /index.html)" "1 ordinary" "its assets, and the files beside it, come from Apache"
for file in db/production.sqlite3 config/master.key log/production.log; do
	code $other "/shop/read?file=$app/$file"
	cat "$tmp/code.body"
	code $shop "/read?file=$app/$file"
	echo
done >"$tmp/read"
is "$(grep -c '^403Permission denied .*200$' "$tmp/read")" 3 "database, key and log can be read by their owner's application, and not by another tenant's" ||
    diag "$(cat "$tmp/read")"

# ---- Rack alone, and fork_server --------------------------------------------------------------

lint() { request plain -k "@$tmp/key" -t 60 -p SERVER_NAME=$shop -p SERVER_PORT=80 -p HTTP_HOST=$shop "$@"; }
lint >"$tmp/lint" 2>"$tmp/lint.err"
is "$(tr -d '\r' <"$tmp/lint" | tr '\n' '|')" 'Status: 200|Content-Type: text/plain|Set-Cookie: a=1|Set-Cookie: b=2||0 0 true|end|' \
    "Rack's own checks find nothing wrong" || diag "$(cat "$tmp/lint.err")"
is "$(lint -O -B 3000000 | tr '\n' ' ')" "$("$bin/client" pattern 3000000 | ruby -e 'b = STDIN.binmode.read; print "#{b.bytesize} #{b.sum(32)} true end "')" \
    "nor with a body of 3 MB"
lint -a forked >"$tmp/out" 2>"$tmp/forked"
like "$(cat "$tmp/forked")" 'Cannot start FCGI process: start: exited with status 1' "an application without threads is not served with fork_server on either"
passes "zfpm's log says why" wait_for_log "pool plain: worker [0-9]+: stderr: fcgi_rack: Ruby can not be forked .*'fork_server off'"
# The fcgi library of Debian 12, in Ruby, closes each connection, and dies of one without a request.
closed() { [ "$(find "/proc/$1/fd" -lname 'socket:*' 2>/dev/null | grep -c .)" -le 1 ]; }
for i in 1 2 3 4 5 6; do
	request dispatch -k "@$tmp/key" -t 60 -O -B 70000 2>&1 | tee "$tmp/out"
	wait_until closed "$(sed -n 's/^pid \([0-9]*\) .*/\1/p' "$tmp/out")"
done >"$tmp/dispatch"
is "$(grep -c '^pid .* 70000$' "$tmp/dispatch") $(tail -n 1 "$tmp/dispatch" | cut -d ' ' -f 4)" "6 5" \
    "Rack::Handler::FastCGI with Ruby's own fcgi loses no request, and its second process serves all the rest" || diag "$(cat "$tmp/dispatch")"

request forked -k "@$tmp/key" -t 60 >"$tmp/out" 2>"$tmp/forked"
threads="Cannot start FCGI process: start: the program has threads when it first waits for a request: it needs 'fork_server off'"
is "$(sed -n 's/^stderr: //p' "$tmp/forked")" "$threads" "Rails has threads when it has started, so fork_server on is refused"
passes "zfpm's log says the same" wait_for_log "pool forked: .*$threads"

# ---- SIGTERM for all --------------------------------------------------------------------------

unlike "$(cat "$tmp/zfpm.log")" 'error: ' "zfpm has nothing to complain of"
stop_zfpm TERM
is "$zfpm_status" 0 "zfpm ends"
