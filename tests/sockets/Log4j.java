// Sends lines with an appender of Log4j: rows come as JSON lines on stdin.
//
// Log4j.java PORT LAYOUT, the layout as in a configuration file.

import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import org.apache.logging.log4j.Level;
import org.apache.logging.log4j.core.config.ConfigurationSource;
import org.apache.logging.log4j.core.config.Configurator;
import org.apache.logging.log4j.layout.template.json.util.JsonReader;

class Log4j {
    static final String CONFIGURATION = """
        <Configuration status="WARN">
          <Appenders>
            <Socket name="socket" host="localhost" port="%s" protocol="TCP" ignoreExceptions="false">%s</Socket>
          </Appenders>
          <Loggers><Root level="DEBUG"><AppenderRef ref="socket"/></Root></Loggers>
        </Configuration>
        """;

    public static void main(String[] arguments) throws Exception {
        var text = CONFIGURATION.formatted((Object[]) arguments).getBytes(StandardCharsets.UTF_8);
        var source = new ConfigurationSource(new ByteArrayInputStream(text));
        try (var context = Configurator.initialize(null, source)) {
            var logger = context.getLogger("a.b");
            var input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
            for (String line = input.readLine(); line != null; line = input.readLine()) {
                var row = (Map<?, ?>) JsonReader.read(line);
                logger.log(Level.valueOf((String) row.get("level")), (CharSequence) row.get("message"));
            }
        }
    }
}
