#!/usr/bin/ruby
# frozen_string_literal: true

# fcgi_rack.rb: serve a Rack application (Rails, Sinatra ...) over FastCGI on descriptor 0, as zfpm starts it.
#
#	fcgi_rack.rb [FILE]
#
# FILE is config.ru unless given, in the working directory, which is the pool's "directory"; a Gemfile there is obeyed.
# Copy it to /usr/local/bin, root's, mode 755. Ruby 2.7 or newer, Rack 2 or 3, and nothing else.
#
# One request at a time. Its body is complete before the application is called; the response streams. What the
# application writes to rack.errors or $stderr while it serves goes to the web server's error log, all else to zfpm's.
# On SIGTERM the request that runs is finished, then the process ends with status 0.
require 'socket'
require 'stringio'
require 'tempfile'

# The other side has left, or its request does not come to its end, or our response does not.
class Gone < IOError
end

# A connection from zfpm, and the requests on it, one after the other.
class Connection
	BEGIN_REQUEST, ABORT_REQUEST, END_REQUEST, PARAMS, STDIN, STDOUT, STDERR = *1..7
	RESPONDER = KEEP_CONN = 1
	REQUEST_COMPLETE = 0
	UNKNOWN_ROLE = 3
	PIECE = 65_528			# the longest content of a record, in whole words
	IN_MEMORY = 256 * 1024		# bytes of a body; a larger one goes to a file

	def initialize(socket)
		@socket = socket
	end

	# The parameters and the body of the next request; the block is called when it has begun.
	def request
		type, content = record until type == BEGIN_REQUEST
		yield
		role, flags = content.unpack('nC')
		@keep = flags & KEEP_CONN != 0
		params = String.new
		body = StringIO.new(String.new)
		until (type, content = record) == [STDIN, '']
			raise Gone if type == ABORT_REQUEST
			params << content if type == PARAMS
			body = spool(body, content) if type == STDIN
		end
		body.rewind
		return pairs(params), body if role == RESPONDER
		finish(UNKNOWN_ROLE)
		raise Gone
	end

	def out(text)
		put(STDOUT, text)
	end

	def err(text)
		put(STDERR, text)
	end

	def finish(status = REQUEST_COMPLETE)
		write([1, END_REQUEST, @id, 8, 0, 0, status].pack('CCnnnNCx3'))
	end

	def keep?
		@keep
	end

	private

	# Type and content; what is not of the request is left out.
	def record
		loop do
			_, type, id, length, padding = take(8).unpack('CCnnC')
			content = take(length)
			take(padding)
			@id = id if type == BEGIN_REQUEST
			return type, content if id == @id
		end
	end

	def take(length)
		bytes = @socket.read(length)
		raise Gone if bytes.nil? || bytes.bytesize < length
		bytes
	rescue SystemCallError
		raise Gone
	end

	def write(*bytes)
		@socket.write(*bytes)
	rescue SystemCallError
		raise Gone
	end

	def put(type, text)
		bytes = text.b
		0.step(bytes.bytesize - 1, PIECE) do |from|
			piece = bytes.byteslice(from, PIECE)
			write([1, type, @id, piece.bytesize, 0].pack('CCnnn'), piece)
		end
	end

	def spool(body, content)
		if body.is_a?(StringIO) && body.pos + content.bytesize > IN_MEMORY
			file = Tempfile.create('fcgi_rack', binmode: true)
			File.unlink(file.path)
			file.write(body.string)
			body = file
		end
		body.write(content)
		body
	end

	def pairs(bytes)
		at = 0
		length = lambda do
			n = bytes.getbyte(at)
			n, at = n < 128 ? [n, at + 1] : [bytes.byteslice(at, 4).unpack1('N') & 0x7fffffff, at + 4]
			n
		end
		pairs = {}
		while at < bytes.bytesize
			name, value = length.call, length.call
			pairs[bytes.byteslice(at, name)] = bytes.byteslice(at + name, value)
			at += name + value
		end
		pairs
	end
end

# rack.errors, and $stderr while a request is served.
class Errors < StringIO
	def initialize(connection)
		super(String.new)
		@connection = connection
	end

	def write(*texts)
		text = texts.join
		@connection.err(text)
		text.bytesize
	end
end

# The web server has decoded the path, a Rack application does it again.
def environment(params, body, errors)
	path = params['PATH_INFO'].to_s.b.gsub(%r{[^A-Za-z0-9\-._~!$&'()*+,;=:@/]}n) { |c| format('%%%02X', c.ord) }
	params.merge(
		'PATH_INFO' => path.empty? && params['SCRIPT_NAME'].to_s.empty? ? '/' : path,
		'SCRIPT_NAME' => params['SCRIPT_NAME'].to_s,
		'QUERY_STRING' => params['QUERY_STRING'].to_s,
		'rack.version' => [1, 3], 'rack.url_scheme' => params['HTTPS'] == 'on' ? 'https' : 'http',
		'rack.input' => body, 'rack.errors' => errors,
		'rack.multithread' => false, 'rack.multiprocess' => true, 'rack.run_once' => false
	).reject { |name, value| %w[CONTENT_TYPE CONTENT_LENGTH].include?(name) && value.empty? }
end

def serve(app, connection, params, body)
	$stderr = errors = Errors.new(connection)
	started = false
	status, headers, parts = app.call(environment(params, body, errors))
	head = +"Status: #{status}\r\n"
	headers.each do |name, values|
		next if name.start_with?('rack.')
		(values.is_a?(Array) ? values : values.to_s.split("\n")).each { |value| head << "#{name}: #{value}\r\n" }
	end
	connection.out("#{head}\r\n")
	started = true
	parts.each { |part| connection.out(part) }
	connection.finish
rescue Gone
	raise
rescue StandardError, ScriptError => e
	errors.write(e.full_message(highlight: false))
	raise Gone if started	# a response that is cut off must not look complete
	connection.out("Status: 500 Internal Server Error\r\n\r\n")
	connection.finish
ensure
	$stderr = STDERR
	parts.close if parts.respond_to?(:close)
	body.close
end

serving = stopping = false
trap('TERM') { serving ? stopping = true : exit }

require 'bundler/setup' if File.exist?('Gemfile')
require 'rack'
app = Rack::Builder.parse_file(ARGV.fetch(0, 'config.ru'))
app = app.first if app.is_a?(Array)		# Rack 2
listener = UNIXServer.for_fd(0)
started = Process.pid
until stopping
	socket = listener.accept
	# Ruby has not forked: now this process and its parent would wait for each other's events, and sometimes for ever.
	abort("fcgi_rack: Ruby can not be forked by a fork server: it needs 'fork_server off'") if Process.pid != started
	begin
		connection = Connection.new(socket)
		loop do
			params, body = connection.request { serving = true }
			serve(app, connection, params, body)
			serving = false
			break if stopping || !connection.keep?
		end
	rescue Gone
		serving = false
	ensure
		socket.close
	end
end
