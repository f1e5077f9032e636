// Sends lines with Loki4j, an appender of Logback: rows come as JSON lines on stdin.
//
// Loki.java URL json CLIENT TOKEN LINES-OF-A-BATCH. The classes that its protobuf needs are not to be had from Maven.

import ch.qos.logback.classic.LoggerContext;
import ch.qos.logback.classic.joran.JoranConfigurator;
import ch.qos.logback.core.status.Status;
import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import org.apache.logging.log4j.layout.template.json.util.JsonReader;
import org.slf4j.MDC;
import org.slf4j.event.Level;

class Loki {
    static final String CONFIGURATION = """
        <configuration>
          <appender name="loki" class="com.github.loki4j.logback.Loki4jAppender">
            <http>
              <url>%s</url>
              <useProtobufApi>false</useProtobufApi>
              <auth><username>any</username><password>%s</password></auth>
              <maxRetries>1000</maxRetries>
              <minRetryBackoffMs>20</minRetryBackoffMs>
              <maxRetryBackoffMs>200</maxRetryBackoffMs>
            </http>
            <labels>
              client=%s
              app=%%logger
              seq=%%mdc{seq}
            </labels>
            <structuredMetadata>level=%%level</structuredMetadata>
            <message><pattern>%%msg</pattern></message>
            <batch><maxItems>%s</maxItems><timeoutMs>100</timeoutMs><drainOnStop>true</drainOnStop></batch>
          </appender>
          <root level="DEBUG"><appender-ref ref="loki"/></root>
        </configuration>
        """;

    public static void main(String[] arguments) throws Exception {
        var text = CONFIGURATION.formatted(arguments[0], arguments[3], arguments[2], arguments[4]);
        var context = new LoggerContext();
        context.setMDCAdapter(MDC.getMDCAdapter());
        var configurator = new JoranConfigurator();
        configurator.setContext(context);
        configurator.doConfigure(new ByteArrayInputStream(text.getBytes(StandardCharsets.UTF_8)));
        var input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            var row = (Map<?, ?>) JsonReader.read(line);
            MDC.put("seq", row.get("seq").toString());
            var level = Level.valueOf(row.get("level").toString().toUpperCase());
            context.getLogger((String) row.get("service")).atLevel(level).log((String) row.get("message"));
        }
        // Waits until all is sent, or given up.
        context.stop();
        for (Status status : context.getStatusManager().getCopyOfStatusList()) {
            if (status.getEffectiveLevel() >= Status.WARN) {
                System.out.println(status);
            }
        }
    }
}
