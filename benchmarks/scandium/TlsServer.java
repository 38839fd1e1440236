import java.io.FileInputStream;
import java.net.InetSocketAddress;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;
import org.eclipse.californium.core.CoapServer;
import org.eclipse.californium.core.config.CoapConfig;
import org.eclipse.californium.core.network.CoapEndpoint;
import org.eclipse.californium.elements.config.CertificateAuthenticationMode;
import org.eclipse.californium.elements.config.Configuration;
import org.eclipse.californium.elements.config.TcpConfig;
import org.eclipse.californium.elements.tcp.netty.TcpServerConnector;
import org.eclipse.californium.elements.tcp.netty.TlsServerConnector;

/**
 * As RdServer, over TCP and TLS (Java's own, below Netty). Words: the TCP port, the TLS port, and a folder with server.p12
 * and authority.pem.
 */
public final class TlsServer {
    private static final char[] PASSWORD = "benchmark".toCharArray();

    private TlsServer() {
    }

    public static void main(String[] words) throws Exception {
        CoapConfig.register();
        TcpConfig.register();
        Configuration configuration = new Configuration();
        configuration.set(CoapConfig.PROTOCOL_STAGE_THREAD_COUNT, 1);
        configuration.set(CoapConfig.MAX_ACTIVE_PEERS, 100_000);
        configuration.set(TcpConfig.TCP_WORKER_THREADS, 1);
        configuration.set(TcpConfig.TLS_CLIENT_AUTHENTICATION_MODE, CertificateAuthenticationMode.NEEDED);
        CoapServer server = new CoapServer(configuration);
        InetSocketAddress plain = new InetSocketAddress("127.0.0.1", Integer.parseInt(words[0]));
        InetSocketAddress secure = new InetSocketAddress("127.0.0.1", Integer.parseInt(words[1]));
        server.addEndpoint(CoapEndpoint.builder().setConfiguration(configuration)
                .setConnector(new TcpServerConnector(plain, configuration)).build());
        server.addEndpoint(CoapEndpoint.builder().setConfiguration(configuration)
                .setConnector(new TlsServerConnector(context(Paths.get(words[2])), secure, configuration)).build());
        server.add(new Rd.Directory(), new Rd.Reports());
        server.start();
        System.out.println("ready");
        System.in.read();
        System.exit(0);
    }

    private static SSLContext context(Path folder) throws Exception {
        KeyStore own = KeyStore.getInstance("PKCS12");
        KeyStore trusted = KeyStore.getInstance("PKCS12");
        trusted.load(null, null);
        try (FileInputStream keys = new FileInputStream(folder.resolve("server.p12").toFile());
                FileInputStream authority = new FileInputStream(folder.resolve("authority.pem").toFile())) {
            own.load(keys, PASSWORD);
            trusted.setCertificateEntry("authority",
                    CertificateFactory.getInstance("X.509").generateCertificate(authority));
        }
        KeyManagerFactory keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
        keys.init(own, PASSWORD);
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(trusted);
        SSLContext made = SSLContext.getInstance("TLS");
        made.init(keys.getKeyManagers(), trust.getTrustManagers(), null);
        return made;
    }
}
